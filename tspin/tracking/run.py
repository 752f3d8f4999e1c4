"""A whole run in MLflow: one run, and a nested one for each iteration."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.files import write_json
from tspin.runs.folder import BASE, RunFolder
from tspin.tracking.iteration import IterationLog
from tspin.tracking.server import Server, TrackedRun
from tspin.tracking.trackers import handed_run, mlflow_address
from tspin.tracking.values import config_params, recorded_tags

__all__ = ["FolderRun", "RunLog"]

NOTE = ".mlflow.json"
"""In a run folder or a comparison's: which run of which server tells of it."""


class FolderRun:
    """The MLflow run of a folder: handed down, noted in the folder, found by its tag, or new."""

    def __init__(self, folder: Path, within: FolderRun | None = None) -> None:
        """Nothing is asked yet.

        Args:
            folder: Of the run or the comparison.
            within: The folder whose run this one is nested in.
        """
        self.folder, self.within = folder, within
        self.server: Server = within.server if within else Server()
        self.ours = within is not None or handed_run() is None
        """Whether its status is for us to set: a run that was handed down is ended by its maker."""
        self._run: TrackedRun | None = None
        self._lock = threading.Lock()
        """A comparison and each of its runs have a thread of their own."""

    def run(self) -> TrackedRun:
        """The run; raises what mlflow raises."""
        with self._lock:
            if self._run is None:
                self._run = self._begun()
            return self._run

    def _begun(self) -> TrackedRun:
        handed = None if self.within else handed_run()
        if handed:
            return self.server.run(handed)
        parent = self.within.run() if self.within else None
        address, note = mlflow_address(), self._note()
        known = note.get("run") if note.get("server") == address else None
        # Where the folder lies is its name, as long as its note is not lost with it.
        key = note.get("key") or f"{socket.gethostname()}:{self.folder.resolve()}"
        run = self.server.begun(key, self._name(), parent=parent, known=known)
        write_json(self.folder / NOTE, {"server": address, "key": key, "run": run.id})
        return run

    def _name(self) -> str:
        if self.within is None:
            return self.folder.name
        return str(self.folder.relative_to(self.within.folder))

    def _note(self) -> dict[str, Any]:
        path = self.folder / NOTE
        try:
            note = json.loads(path.read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return note if isinstance(note, dict) else {}


class RunLog:
    """What a run folder has, and what MLflow has of it."""

    def __init__(
        self, config: RunConfig, within: FolderRun | None = None, *, whole: bool = True
    ) -> None:
        """Nothing is sent yet.

        Args:
            config: Of the run.
            within: The comparison that the run is part of.
            whole: False for a single step, with which the run does not end.
        """
        self._config, self._whole = config, whole
        self._folder = RunFolder(Path(config.run_dir))
        self._target = FolderRun(self._folder.path, within)
        self._iterations: dict[int, IterationLog] = {}
        self._begun = False
        self._report: int | None = None

    def send(self) -> None:
        """Bring the run and its nested ones up to date with the folder."""
        if not self._folder.path.is_dir():
            return  # Refused, or not begun yet.
        run = self._target.run()
        if not self._begun:
            self._begin(run)
        for number in self._numbers():
            self._iteration(number).send(self._target.server, run)
        run.set_tags(self._tags())
        written = self._new_report()
        if written is not None:
            run.keep(self._folder.report)
            self._report = written

    def end(self, status: str) -> None:
        """The run is over, for now."""
        if not (self._begun and self._whole):
            return
        for iteration in self._iterations.values():
            iteration.end(status)
        if self._target.ours:
            self._target.run().set_status(status)

    def unsent(self) -> list[str]:
        """What MLflow has not confirmed."""
        missing = [text for number in self._numbers() for text in self._iteration(number).unsent()]
        return [*missing, *(["report.html"] if self._new_report() is not None else [])]

    def _begin(self, run: TrackedRun) -> None:
        if self._target.ours:
            run.set_status("RUNNING")
        run.set_params(config_params(self._config))
        self._begun = True

    def _numbers(self) -> list[int]:
        base = self._folder.iteration(BASE).path.is_dir()
        numbers = [n for n in self._folder.numbers() if n < self._config.iterations]
        return [*([BASE] if base else []), *numbers]

    def _iteration(self, number: int) -> IterationLog:
        if number not in self._iterations:
            folder = self._folder.iteration(number)
            self._iterations[number] = IterationLog(self._config, folder, number)
        return self._iterations[number]

    def _tags(self) -> dict[str, str]:
        tags = {"tspin.iterations": str(self._config.iterations)}
        tags |= recorded_tags(self._folder.proto) | recorded_tags(self._folder.heldout_proto)
        inputs = self._folder.path / "inputs.json"
        if inputs.is_file():
            hashes = json.loads(inputs.read_bytes())
            tags |= {f"tspin.inputs.{name}": str(value) for name, value in hashes.items()}
        if self._folder.best.is_file():
            best = json.loads(self._folder.best.read_bytes())
            tags["tspin.best.iteration"] = str(best["iteration"])
            tags["tspin.stopped"] = str(best["stopped"] or "")
        return tags

    def _new_report(self) -> int | None:
        """When the report was written, if that one is not sent."""
        if not self._folder.report.is_file():
            return None
        written = self._folder.report.stat().st_mtime_ns
        return None if written == self._report else written
