"""An MLflow tracking server on loopback, with SQLite, that tests start, kill and ask."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ports import free_port

__all__ = ["TRACKERS", "MlflowServer", "need_mlflow"]

TRACKERS = os.environ.get("TSPIN_TRACKERS")
"""The folder of `mlflow` and of the other trackers' Python; `make test-trackers` sets it."""
_SECONDS = 600.0
"""In which it has started, or answered a request, however busy the machine is."""


def need_mlflow() -> str:
    """The folder of its command; the test is skipped where there is none and none must be."""
    if TRACKERS is not None:
        return TRACKERS
    if os.environ.get("TSPIN_REQUIRE_TRACKERS"):
        pytest.fail("TSPIN_TRACKERS is not set")
    pytest.skip("needs an MLflow server: make test-trackers")


class MlflowServer:
    """Runs and their values stay in `folder` over kills."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """At the same address each time; nothing where it runs."""
        if self._process is not None:
            return
        self._folder.mkdir(exist_ok=True)
        at = {"--host": "127.0.0.1", "--port": str(self._port), "--workers": "1"}
        store = {
            "--backend-store-uri": f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination": str(self._folder / "artifacts"),
        }
        options = [part for option in (at | store).items() for part in option]
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": "", "HOME": str(self._folder)}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [f"{need_mlflow()}/mlflow", "server", *options],
                cwd=self._folder,
                env={**os.environ, **own, "PATH": f"{need_mlflow()}:{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        began = time.monotonic()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > _SECONDS:
                self.kill()
                pytest.fail((self._folder / "log").read_text())
            time.sleep(0.1)

    def kill(self) -> None:
        """As a lost machine would, workers included."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=60).ok
        except requests.RequestException:
            return False

    def asked(self, call: str, *, method: str | None = None, **content: Any) -> dict[str, Any]:
        """What the API answers; POST where there is content, unless another method is said."""
        url = f"{self.uri}/api/2.0/mlflow/{call}"
        method = method or ("POST" if content else "GET")
        answer = requests.request(method, url, json=content or None, timeout=_SECONDS)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def runs(self, experiment: str) -> dict[str, Shown]:
        """Those of an experiment, by name; there may be no two of one name."""
        runs = self._runs(experiment)
        names = [run.name for run in runs]
        assert len(names) == len({*names}), f"runs of one name: {names}"
        return {run.name: run for run in runs}

    def runs_below(self, experiment: str) -> dict[str, Shown]:
        """The same by their path: the names of the runs that one is nested in, and its own."""
        runs = {run.id: run for run in self._runs(experiment)}

        def path(run: Shown) -> str:
            return f"{path(runs[run.parent])}/{run.name}" if run.parent else run.name

        return {path(run): run for run in runs.values()}

    def _runs(self, experiment: str) -> list[Shown]:
        found = self.asked("experiments/search", max_results=100).get("experiments", [])
        numbers = [e["experiment_id"] for e in found if e["name"] == experiment]
        if not numbers:
            return []
        found = self.asked("runs/search", experiment_ids=numbers, max_results=500)
        return [Shown(self, run) for run in found.get("runs", [])]

    def create_experiment(self, name: str) -> str:
        """Its number."""
        return str(self.asked("experiments/create", name=name)["experiment_id"])

    def create_run(self, experiment: str, name: str, parent: str | None = None) -> str:
        """One that somebody else makes, in the experiment of this number."""
        tags = [{"key": "mlflow.parentRunId", "value": parent}] if parent else []
        made = self.asked("runs/create", experiment_id=experiment, run_name=name, tags=tags)
        return str(made["run"]["info"]["run_id"])

    def curve(self, run_id: str, name: str) -> list[tuple[int, float]]:
        """The values of a metric by step, as often as they were sent."""
        found = self.asked(f"metrics/get-history?run_id={run_id}&metric_key={name}")
        return sorted((int(m.get("step", 0)), m["value"]) for m in found.get("metrics", []))

    def artifacts(self, run_id: str) -> list[str]:
        """The paths of a run's files."""
        found = self.asked(f"artifacts/list?run_id={run_id}")
        return [file["path"] for file in found.get("files", [])]


class Shown:
    """A run as the server shows it."""

    def __init__(self, server: MlflowServer, run: dict[str, Any]) -> None:
        self._server = server
        self.id: str = run["info"]["run_id"]
        self.name: str = run["info"]["run_name"]
        self.status: str = run["info"]["status"]
        data = run["data"]
        self.params = {param["key"]: param["value"] for param in data.get("params", [])}
        self.tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
        self.metrics = {metric["key"]: metric["value"] for metric in data.get("metrics", [])}

    @property
    def parent(self) -> str | None:
        """The run that it is nested in."""
        return self.tags.get("mlflow.parentRunId")

    def curve(self, name: str) -> list[tuple[int, float]]:
        """See `MlflowServer.curve`."""
        return self._server.curve(self.id, name)

    @property
    def artifacts(self) -> list[str]:
        """See `MlflowServer.artifacts`."""
        return self._server.artifacts(self.id)
