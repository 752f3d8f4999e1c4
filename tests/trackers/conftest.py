"""One MLflow server for all tests, and an experiment for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tspin.tracking.sender
from tests.trackers.mlflow_server import MlflowServer, need_mlflow
from tspin.tracking.server import SETTINGS


@pytest.fixture(scope="session")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    need_mlflow()
    server = MlflowServer(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(started_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """Running, and the one that commands tell; they look at their files all the time."""
    started_server.start()
    for name, value in SETTINGS.items():  # Else mlflow's first use would leave them behind.
        monkeypatch.setenv(name, value)
    # A busy server may take long; one that was killed refuses at once.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started_server.uri)
    monkeypatch.setattr(tspin.tracking.sender, "EVERY", 0.05)
    monkeypatch.setattr(tspin.tracking.sender, "PATIENCE", 300.0)
    return started_server


@pytest.fixture
def experiment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its name."""
    name = request.node.name.partition("[")[0]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return str(name)
