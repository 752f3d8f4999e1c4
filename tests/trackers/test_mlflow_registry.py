"""The champion in the model registry of a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tspin.mirrors.following as following
from tests.registry_models import METRIC, promote_candidate
from tests.s3_server import s3_bucket
from tests.trackers.mlflow_server import MlflowServer
from tspin.cli.main import app
from tspin.errors import TspinError
from tspin.mirrors.following import Mirrors, mirrored
from tspin.registry import Record, rollback

pytestmark = pytest.mark.trackers


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(following, "PATIENCE", 300.0)
    with s3_bucket() as bucket:
        yield f"{bucket}/registry"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """One server serves all tests."""
    return str(request.node.name.partition("[")[0])


def _promote(folder: Path, number: int, registry: str, *mirrors: str, name: str) -> Record:
    with mirrored(registry, mirrors, name):
        return promote_candidate(folder, number, registry, git_commit="c0ffee")


def _champion(server: MlflowServer, name: str) -> dict[str, Any]:
    """The tags of the version that has the alias, and its source."""
    asked = f"registered-models/alias?name={name}&alias=champion"
    version: dict[str, Any] = server.asked(asked)["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    return tags | {"source": version["source"], "version": version["version"]}


def _versions(server: MlflowServer, name: str) -> list[dict[str, Any]]:
    found = server.asked(f"model-versions/search?filter=name%3D%27{name}%27")
    return list(found.get("model_versions", []))


def test_the_champion_has_the_alias_its_metrics_and_its_lineage(
    server: MlflowServer, registry: str, name: str, tmp_path: Path
) -> None:
    mirror = f"mlflow={server.uri}"
    first = _promote(tmp_path / "1", 1, registry, mirror, name=name)
    shown = _champion(server, name)
    assert shown["source"] == f"{registry}/models/{first.model}"
    estimate = first.metrics[METRIC]
    for end, value in {"": estimate.value, ".low": estimate.low, ".high": estimate.high}.items():
        assert float(shown[f"heldout/{METRIC}{end}"]) == value
    assert (shown["tspin.model"], shown["tspin.git_commit"]) == (first.model, "c0ffee")
    _promote(tmp_path / "1", 1, registry, mirror, name=name)
    assert len(_versions(server, name)) == 1
    second = _promote(tmp_path / "2", 2, registry, mirror, name=name)
    assert _champion(server, name)["tspin.model"] == second.model
    with mirrored(registry, [mirror], name):
        rollback(registry)
    assert _champion(server, name)["tspin.model"] == first.model
    assert _champion(server, name)["tspin.number"] == "3"
    assert len(_versions(server, name)) == 2


def test_a_server_that_is_down_is_repaired_by_the_command_of_the_warning(
    server: MlflowServer,
    registry: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror = f"mlflow={server.uri}"
    _promote(tmp_path / "1", 1, registry, mirror, name=name)
    server.kill()
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record = _promote(tmp_path / "2", 2, registry, mirror, name=name)
    repair = ["registry", "sync", "--registry", registry, "--mirror", mirror, "--mirror-name", name]
    assert f"tspin {' '.join(repair)}" in caplog.text
    with pytest.raises(TspinError, match=mirror):
        CliRunner().invoke(app, repair, catch_exceptions=False)
    server.start()
    monkeypatch.setattr(following, "PATIENCE", 300.0)
    done = CliRunner().invoke(app, repair, catch_exceptions=False)
    assert f"{mirror}: champion: {record.model}" in done.stdout
    assert _champion(server, name)["tspin.model"] == record.model


def test_a_half_written_model_is_made_whole_and_what_others_put_there_is_kept(
    server: MlflowServer, registry: str, name: str, tmp_path: Path
) -> None:
    mirror = f"mlflow={server.uri}"
    record = _promote(tmp_path / "1", 1, registry, mirror, name=name)
    number = _champion(server, name)["version"]
    at = {"name": name, "version": number}
    server.asked("registered-models/alias", method="DELETE", name=name, alias="champion")
    server.asked("model-versions/delete-tag", method="DELETE", **at, key=f"heldout/{METRIC}")
    server.asked("model-versions/set-tag", **at, key="heldout/old", value="1")
    server.asked("model-versions/set-tag", **at, key="theirs", value="kept")
    changes = list(Mirrors.of(registry, [mirror], name).sync())
    assert changes == [
        f"{mirror}: version {record.model}: brought up to date",
        f"{mirror}: champion: {record.model}",
    ]
    shown = _champion(server, name)
    assert (shown["theirs"], shown[f"heldout/{METRIC}"]) == ("kept", "0.1")
    assert "heldout/old" not in shown
    assert list(Mirrors.of(registry, [mirror], name).sync()) == [f"{mirror}: up to date"]


def test_a_model_of_others_is_left_alone(
    server: MlflowServer,
    registry: str,
    name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.asked("registered-models/create", name=name)
    _promote(tmp_path / "1", 1, registry, f"mlflow={server.uri}", name=name)
    assert "was not made by tspin" in caplog.text
    assert not _versions(server, name)
