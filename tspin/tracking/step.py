"""A single step in MLflow: the run of its task, or its place in the run of the folder it fills."""

from __future__ import annotations

import socket
from pathlib import Path

from tspin.records.training_log import TRAIN_LOG
from tspin.runs.folder import BASE, RunFolder
from tspin.tracking.iteration import Outputs
from tspin.tracking.server import Server, TrackedRun
from tspin.tracking.tracked import Step
from tspin.tracking.trackers import handed_run
from tspin.tracking.training import Curves
from tspin.tracking.values import config_params, iteration_params

__all__ = ["StepLog", "is_in_run_folder"]


def is_in_run_folder(step: Step) -> bool:
    """Whether a step fills its place in the run folder of its configuration."""
    if step.config is None or "://" in step.config.run_dir:
        return False
    folder = RunFolder(Path(step.config.run_dir))
    places = [folder.path, folder.iteration(BASE).path]
    if step.iteration is not None:
        places.append(folder.iteration(step.iteration).path)
    return step.out.resolve().parent in [place.resolve() for place in places]


class StepLog:
    """What a step has made, and what MLflow has of it."""

    def __init__(self, step: Step) -> None:
        """Nothing is sent yet."""
        self._step, self._server = step, Server()
        self._run: TrackedRun | None = None
        self._above: TrackedRun | None = None
        self._curves = Curves(step.train_log or step.out.with_name(TRAIN_LOG))
        self._outputs = Outputs(step.out)
        self._artifact: int | None = None

    def send(self) -> None:
        """Bring the run up to date with the files."""
        run = self._run = self._run or self._begun()
        if self._step.name == "train":
            self._curves.send(run)
        self._outputs.send(run, self._above)
        written = self._new_artifact()
        if written is not None and self._step.artifact is not None:
            run.keep(self._step.artifact)
            self._artifact = written

    def end(self, status: str) -> None:
        """The step is over; a run that was handed down is ended by its maker."""
        if self._run is not None and handed_run() is None:
            self._run.set_status(status)

    def unsent(self) -> list[str]:
        """What MLflow has not confirmed."""
        curves = self._curves.unsent() if self._step.name == "train" else None
        artifact = [] if self._new_artifact() is None else [str(self._step.artifact)]
        return [*([curves] if curves else []), *self._outputs.unsent(), *artifact]

    def _begun(self) -> TrackedRun:
        step, handed = self._step, handed_run()
        if handed is None:
            key = f"{socket.gethostname()}:{step.out.resolve()}"
            run = self._server.begun(key, f"{step.name} {step.out.name}")
            run.set_status("RUNNING")
        else:
            run = self._server.run(handed)
            top = run.top()
            self._above = None if top.id == run.id else top
        tags = {"tspin.step": step.name}
        if step.iteration is not None:
            tags["tspin.iteration"] = str(step.iteration)
        run.set_tags(tags)
        if step.config is not None:
            # In this order: what is there is not changed, and of an iteration its own value counts.
            run.set_params(iteration_params(step.config, step.iteration or 0))
            run.set_params(config_params(step.config))
        return run

    def _new_artifact(self) -> int | None:
        """When the artifact was written, if that one is not sent."""
        path = self._step.artifact
        if path is None or not path.is_file():
            return None
        written = path.stat().st_mtime_ns
        return None if written == self._artifact else written
