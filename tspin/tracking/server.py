"""An MLflow tracking server: runs that are found again, values that are there once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tspin.files import sha256_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["SETTINGS", "Point", "Server", "TrackedRun"]

_Item = TypeVar("_Item")

# A tracker is asked again by whoever sends (`tspin.tracking.sender`): one call gives up soon.
# Without the last one mlflow would report the use of it to its makers.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_KEY = "tspin.key"
_METRICS, _OTHERS = 1000, 100
"""What a request may hold (mlflow/utils/validation.py)."""
_VALUE, _TAG = 6000, 8000
"""Characters of a parameter and of a tag."""


@dataclass(frozen=True)
class Point:
    """One value of a curve."""

    name: str
    value: float
    step: int
    time_ms: int
    """Milliseconds since 1970; a value sent twice with the same time is kept once."""


class Server:
    """Calls raise what mlflow raises, for a server that is away and for one that refuses."""

    @cached_property
    def client(self) -> MlflowClient:
        """Of the server that MLFLOW_TRACKING_URI names; importing it takes seconds."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        return MlflowClient()

    @cached_property
    def experiment(self) -> str:
        """Where new runs go: MLFLOW_EXPERIMENT_ID, or MLFLOW_EXPERIMENT_NAME, made if need be."""
        number = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if number:
            return number
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "tspin")
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else str(self.client.create_experiment(name))

    def run(self, run_id: str) -> TrackedRun:
        """One that exists."""
        return TrackedRun(self, self.client.get_run(run_id))

    def begun(
        self, key: str, name: str, *, parent: TrackedRun | None = None, known: str | None = None
    ) -> TrackedRun:
        """The run of this key, found again or made.

        Args:
            key: Of what it tells; a tag of the run holds it.
            name: That people read.
            parent: The run that it is nested in.
            known: Its id, where a file tells it; looked at first.
        """
        if known is not None:
            run = self._existing(known)
            if run is not None and run.data.tags.get(_KEY) == key:
                return TrackedRun(self, run)
        experiment = parent.experiment if parent else self.experiment
        there = self.client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'")
        if there:
            return TrackedRun(self, there[-1])  # The oldest: the newest is first.
        tags = {_KEY: key, _NAME: name} | ({_PARENT: parent.id} if parent else {})
        return TrackedRun(self, self.client.create_run(experiment, tags=tags))

    def _existing(self, run_id: str) -> Run | None:
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None


@dataclass
class TrackedRun:
    """One run. What it holds already is not sent again."""

    server: Server
    run: Run
    params: dict[str, str] = field(init=False)
    tags: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.params, self.tags = dict(self.run.data.params), dict(self.run.data.tags)

    @property
    def id(self) -> str:
        """Of the run."""
        return str(self.run.info.run_id)

    @property
    def experiment(self) -> str:
        """Of the experiment that it belongs to."""
        return str(self.run.info.experiment_id)

    def top(self) -> TrackedRun:
        """The run that this one is nested in, over all levels; itself if in none."""
        run, seen = self, {self.id}
        while (parent := run.tags.get(_PARENT)) and parent not in seen:
            seen.add(parent)
            run = self.server.run(parent)
        return run

    def set_params(self, values: Mapping[str, str]) -> None:
        """Add parameters. One that is there keeps its value: MLflow never changes them."""
        from mlflow.entities import Param

        new = {name: value for name, value in values.items() if name not in self.params}
        for names in _batches(sorted(new), _OTHERS):
            params = [Param(name, new[name][:_VALUE]) for name in names]
            self.server.client.log_batch(self.id, params=params)
        self.params |= new

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set those tags that are missing or have another value."""
        from mlflow.entities import RunTag

        new = {name: value[:_TAG] for name, value in values.items()}
        new = {name: value for name, value in new.items() if self.tags.get(name) != value}
        for names in _batches(sorted(new), _OTHERS):
            tags = [RunTag(name, new[name]) for name in names]
            self.server.client.log_batch(self.id, tags=tags)
        self.tags |= new

    def add(self, points: Iterable[Point]) -> None:
        """Add values to curves."""
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time_ms, point.step) for point in points]
        for batch in _batches(metrics, _METRICS):
            self.server.client.log_batch(self.id, metrics=batch)

    def last_step(self, name: str) -> int | None:
        """The largest step that a curve has; None where there is no curve yet."""
        history = self.server.client.get_metric_history(self.id, name)
        return max((metric.step for metric in history), default=None)

    def keep(self, path: Path) -> None:
        """Put a file with the run's artifacts, unless it is there in this form."""
        tag, content = f"tspin.artifact.{path.name}", sha256_file(path)
        if self.tags.get(tag) != content:
            self.server.client.log_artifact(self.id, str(path))
            self.set_tags({tag: content})

    def set_status(self, status: str) -> None:
        """RUNNING, FINISHED, FAILED or KILLED."""
        if self.run.info.status == status:
            return
        if status == "RUNNING":
            self.server.client.update_run(self.id, status=status)
        else:
            self.server.client.set_terminated(self.id, status)
        self.run = self.server.client.get_run(self.id)


def _batches(items: list[_Item], size: int) -> Iterable[list[_Item]]:
    return (items[at : at + size] for at in range(0, len(items), size))
