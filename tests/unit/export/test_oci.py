"""What `--oci` takes, and what it says where nothing can be pushed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.ports import free_port
from tests.registry_models import METRIC, make_candidate, make_model
from tspin.cli.main import app
from tspin.errors import InputError, TspinError
from tspin.export.oci import Reference, push_image
from tspin.registry import Registry, promote


@pytest.mark.parametrize(
    ("text", "host", "path", "tag"),
    [
        ("registry.example.com/team/model:1.0", "registry.example.com", "team/model", "1.0"),
        ("oci://localhost:5000/model", "localhost:5000", "model", None),
        ("localhost/model", "localhost", "model", None),
        ("registry:5000/a_b/c-d.e:v1_2", "registry:5000", "a_b/c-d.e", "v1_2"),
        ("127.0.0.1:5000/m:t", "127.0.0.1:5000", "m", "t"),
    ],
)
def test_a_reference(text: str, host: str, path: str, tag: str | None) -> None:
    assert Reference.of(text) == Reference(host, path, tag)


@pytest.mark.parametrize(
    "text",
    [
        "model",
        "team/model:1",
        "registry.example.com",
        "registry.example.com/",
        "registry.example.com/Team/model",
        "registry.example.com/team//model",
        "registry.example.com/model:",
        "registry.example.com/model:a/b",
        "https://registry.example.com/model",
        "me:secret@registry.example.com/model",
        f"registry.example.com/model@sha256:{'a' * 64}",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InputError, match=r"--oci .*expected HOST\[:PORT\]/PATH\[:TAG\]"):
        Reference.of(text)


def test_a_registry_that_is_away_is_named(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", 1)
    reference = Reference.of(f"127.0.0.1:{free_port()}/team/model")
    with pytest.raises(TspinError, match=rf"{reference.repository}: ConnectionError") as failed:
        push_image(model, reference, "a" * 64)
    assert failed.value.exit_code == 1
    assert "object at 0x" not in str(failed.value)


@pytest.mark.parametrize(
    "options",
    [
        ["--oci", "registry.example.com/m"],
        ["RUN", "--oci", "registry.example.com/m"],
        ["--registry", "REGISTRY"],
        ["RUN", "--registry", "REGISTRY", "--oci", "registry.example.com/m"],
        ["RUN", "--out", "out", "--number", "1"],
    ],
)
def test_a_champion_or_a_run_is_exported(options: list[str]) -> None:
    with pytest.raises(InputError, match="--registry"):
        CliRunner().invoke(app, ["export", *options], catch_exceptions=False)


def test_an_image_is_noted_beside_its_model_once(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    model, metrics = make_candidate(tmp_path / "a", 1, 0.5)
    record = promote(
        model, metrics=metrics, registry=str(registry), metric=METRIC, direction="max", by="me"
    )
    opened = Registry(str(registry))
    opened.images.add(record, "registry.example.com/m@sha256:1")
    (note,) = opened.images.of(record.model)
    assert (note.model, note.files_sha256) == (record.model, record.files_sha256)
    before = {path: path.read_bytes() for path in registry.rglob("*.json")}
    opened.images.add(record, "registry.example.com/m@sha256:1")
    assert {path: path.read_bytes() for path in registry.rglob("*.json")} == before
    opened.images.add(record, "registry.example.com/other@sha256:1")
    assert len(opened.images.of(record.model)) == 2
    assert opened.verify()
    opened.fetch(record, tmp_path / "fetched")
    assert not (tmp_path / "fetched/images").exists()
    listed = CliRunner().invoke(app, ["registry", "list", "--registry", str(registry), "--json"])
    assert '"registry.example.com/m@sha256:1"' in listed.stdout
