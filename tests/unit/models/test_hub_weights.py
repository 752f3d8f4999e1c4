"""Weights of a Hub model are fetched by the task that imports it, before any that needs a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hub_datasets import DatasetHub, dataset_hub
from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.models.folder import fetch_weights, find_model
from tspin.models.policy import policy_identity
from tspin_components.import_model import import_model

COMMIT = "c" * 40
MODEL = ModelConfig(path="acme/small")


@pytest.fixture
def hub(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatasetHub]:
    files = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir() if path.is_file()}
    with dataset_hub(MODEL.path, {COMMIT: files}, kind="models") as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


def weights_asked_for(hub: DatasetHub) -> bool:
    return any(line.startswith("GET") and "safetensors" in line for line in hub.asked)


@pytest.mark.parametrize("fetch", [True, False])
def test_the_task_that_imports_a_model_fetches_it_where_the_others_look(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch: bool
) -> None:
    identity = policy_identity(MODEL.path, MODEL)
    assert identity == f"hub:acme/small@{COMMIT}"
    assert not weights_asked_for(hub)
    artifact = SimpleNamespace(path=str(tmp_path / "policy"), uri="s3://made/policy", metadata={})
    import_model.python_func(MODEL.path, identity, identity if fetch else "", artifact)
    assert weights_asked_for(hub) is fetch
    named = json.loads((tmp_path / "policy" / "reference.json").read_bytes())
    assert named == {"path": "acme/small", "identity": identity}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if fetch:
        assert list(find_model(MODEL.path, MODEL).path.glob("*.safetensors"))
    else:
        with pytest.raises(InputError, match="safetensors"):
            find_model(MODEL.path, MODEL)


def test_of_an_adapter_in_a_folder_the_base_alone_is_fetched(hub: DatasetHub) -> None:
    fetch_weights(f"{'a' * 64}+hub:acme/small@{COMMIT}")
    assert weights_asked_for(hub)


def test_a_commit_that_the_hub_does_not_have_is_named(hub: DatasetHub) -> None:
    with pytest.raises(InputError, match=f"acme/small.*{'d' * 40}"):
        fetch_weights(f"hub:acme/small@{'d' * 40}")
    assert not weights_asked_for(hub)
