"""A comparison in MLflow: one run, in which the run of each method and seed is nested."""

from __future__ import annotations

from pathlib import Path

from tspin.config import RunConfig
from tspin.tracking.run import FolderRun
from tspin.tracking.values import config_params

__all__ = ["ComparisonLog"]

_ARTIFACTS = ("compare.json", "compare.html")


class ComparisonLog:
    """What a comparison's folder has, and what MLflow has of it."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        """Nothing is sent yet.

        Args:
            config: What its runs have in common.
            folder: Of the comparison.
        """
        self._config, self._folder = config, folder
        self.target = FolderRun(folder)
        self._begun = False
        self._sent: dict[Path, int] = {}

    def send(self) -> None:
        """Bring the run up to date with the folder; its runs have logs of their own."""
        run = self.target.run()
        if not self._begun:
            if self.target.ours:
                run.set_status("RUNNING")
            run.set_params(config_params(self._config))
            self._begun = True
        for path, written in self._new():
            run.keep(path)
            self._sent[path] = written

    def end(self, status: str) -> None:
        """The comparison is over, for now."""
        if self.target.ours:
            self.target.run().set_status(status)

    def unsent(self) -> list[str]:
        """What MLflow has not confirmed."""
        return [path.name for path, _ in self._new()]

    def _new(self) -> list[tuple[Path, int]]:
        there = [path for name in _ARTIFACTS if (path := self._folder / name).is_file()]
        times = ((path, path.stat().st_mtime_ns) for path in there)
        return [(path, time) for path, time in times if self._sent.get(path) != time]
