"""Kubeflow Model Registry: what a promotion leaves there, and what others left is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.model_registry_server import ModelRegistryServer
from tests.registry_models import METRIC
from tests.unit.mirrors.conftest import Promote
from tspin.mirrors.following import Mirrors
from tspin.registry import rollback

HELDOUT = f"heldout/{METRIC}"


def _writes(server: ModelRegistryServer) -> list[str]:
    return [call for call in server.calls if not call.startswith("GET")]


def _run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_the_champion_is_there_as_its_own_client_reads_it(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    record = promoted(
        1, server.mirror, name="answers", run="kfp://team/12-3/a%20run", git_commit="c0ffee"
    )
    from model_registry import ModelRegistry

    # With a runner of ours: its own patches asyncio for the rest of the process.
    url = server.mirror.partition("=")[2]
    client = ModelRegistry(url, author="me", user_token="t", async_runner=_run)
    version = client.get_model_version("answers", record.model)
    artifact = client.get_model_artifact("answers", record.model)
    assert version is not None
    assert artifact is not None
    properties = version.custom_properties or {}
    estimate = record.metrics[METRIC]
    assert properties["champion"] is True
    assert [properties[HELDOUT + end] for end in ("", ".low", ".high")] == [
        estimate.value,
        estimate.low,
        estimate.high,
    ]
    assert properties["tspin.git_commit"] == "c0ffee"
    assert (version.author, properties["tspin.number"]) == ("someone", 1)
    assert artifact.uri == f"{Path(registry).as_uri()}/models/{record.model}"
    assert artifact.model_format_name == "safetensors"
    source = (artifact.model_source_kind, artifact.model_source_class, artifact.model_source_group)
    assert source == ("kfp", "pipelinerun", "team")
    assert (artifact.model_source_id, artifact.model_source_name) == ("12-3", "a run")
    model = client.get_registered_model("answers")
    assert model is not None
    assert (model.custom_properties or {})["champion"] == record.model


def test_a_second_promotion_of_the_champion_changes_nothing(
    server: ModelRegistryServer, promoted: Promote
) -> None:
    promoted(1, server.mirror)
    server.calls.clear()
    promoted(1, server.mirror)
    assert server.calls
    assert not _writes(server)


def test_one_version_is_the_champion_and_after_a_rollback_the_earlier_one(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    records = [promoted(number, server.mirror) for number in (1, 2, 3, 4)]
    assert server.flagged() == [records[-1].model]
    rollback(registry, to=2)
    changes = list(Mirrors.of(registry, [server.mirror]).sync())
    assert server.flagged() == [records[1].model]
    assert f"{server.mirror}: champion: {records[1].model}" in changes
    assert server.property(server.model("registry"), "champion") == records[1].model
    assert len(server.versions) == 4
    assert list(Mirrors.of(registry, [server.mirror]).sync()) == [f"{server.mirror}: up to date"]


def test_a_half_written_mirror_is_made_whole(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    first, second = promoted(1, server.mirror), promoted(2, server.mirror)
    names = (first.model, second.model)
    whole = {name: dict(server.version(name)["customProperties"]) for name in names}
    (missing, wrong) = server.artifacts
    del server.artifacts[missing]
    server.artifacts[wrong]["uri"] = "s3://elsewhere/model"
    server.version(first.model)["customProperties"] = {}
    server.version(second.model)["customProperties"].pop(HELDOUT)
    server.version(second.model)["customProperties"]["heldout/old"] = {
        "metadataType": "MetadataDoubleValue",
        "double_value": 1.0,
    }
    changes = list(Mirrors.of(registry, [server.mirror]).sync())
    assert sorted(a["uri"].rpartition("/")[2] for a in server.artifacts.values()) == sorted(
        [first.model, second.model]
    )
    assert server.version(second.model)["customProperties"] == whole[second.model]
    del whole[first.model]["champion"]  # Never marked and marked as none are the same.
    assert server.version(first.model)["customProperties"] == whole[first.model]
    assert f"{server.mirror}: version {first.model}: artifact made" in changes
    assert f"{server.mirror}: version {second.model}: artifact brought up to date" in changes


def test_what_others_put_there_is_kept(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    first = promoted(1, server.mirror)
    theirs = {"metadataType": "MetadataStructValue", "struct_value": "e30="}
    version = server.version(first.model)
    version["customProperties"] |= {"theirs": theirs}
    version["state"] = "ARCHIVED"
    model = server.model("registry")
    model["customProperties"]["team"] = theirs
    promoted(2, server.mirror)
    assert version["customProperties"]["theirs"] == theirs
    assert server.version(first.model)["state"] == "ARCHIVED"
    assert server.model("registry")["customProperties"]["team"] == theirs


def test_a_champion_that_others_marked_is_none(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    record = promoted(1, server.mirror)
    theirs = {**server.version(record.model), "id": "77", "name": "theirs"}
    server.versions["77"] = theirs
    assert len(server.flagged()) == 2
    list(Mirrors.of(registry, [server.mirror]).sync())
    assert server.flagged() == [record.model]


def test_a_model_of_others_is_left_alone(
    server: ModelRegistryServer,
    registry: str,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = {"id": "9", "name": "registry", "state": "LIVE", "customProperties": {}}
    server.models["9"] = dict(theirs)
    record = promoted(1, server.mirror)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "was not made by tspin" in warning
    assert "--mirror-name" in warning
    assert server.models == {"9": theirs}
    assert not server.versions
    promoted(1, server.mirror, name="ours")
    assert server.flagged() == [record.model]
    assert server.models["9"] == theirs


def test_the_token_of_a_file_is_sent_and_never_shown(
    tmp_path: Path,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    server = ModelRegistryServer(token="opensesame-1234")
    server.start()
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    token.write_text("wrong-secret-5678\n")
    promoted(1, server.mirror)
    assert "401" in caplog.text
    assert not server.models
    token.write_text("opensesame-1234\n")
    record = promoted(1, server.mirror)
    assert server.flagged() == [record.model]
    server.stop()
    assert "wrong-secret-5678" not in caplog.text
    assert "opensesame-1234" not in caplog.text


def test_a_token_that_cannot_be_read_is_named(
    server: ModelRegistryServer,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", "/nowhere/token")
    promoted(1, server.mirror)
    assert "KF_PIPELINES_SA_TOKEN_PATH names /nowhere/token: No such file" in caplog.text
