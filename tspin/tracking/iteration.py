"""One iteration of a run: a nested run with parameters, curves, held-out metrics and hashes."""

from __future__ import annotations

from pathlib import Path

from tspin.config import RunConfig
from tspin.records.manifest import manifest_path
from tspin.runs.folder import BASE, IterationFolder
from tspin.tracking.server import Server, TrackedRun
from tspin.tracking.training import Curves
from tspin.tracking.values import heldout, iteration_params, recorded_tags

__all__ = ["IterationLog", "Outputs"]


class Outputs:
    """Finished outputs: the hashes in their manifests as tags, held-out metrics as values."""

    def __init__(self, *paths: Path) -> None:
        """Nothing is sent yet; outputs that are not there yet are passed over."""
        self._paths = paths
        self._sent: dict[Path, int] = {}

    def send(self, run: TrackedRun, above: TrackedRun | None) -> None:
        """Send what is new since the last call that succeeded.

        Args:
            run: Gets all of it.
            above: Gets the held-out metrics too: one curve over all iterations.
        """
        for path, time in self._new():
            tags = recorded_tags(path)
            # The tags come last: they say that the values are there.
            if path.name == "metrics.json" and any(
                run.tags.get(name) != value for name, value in tags.items()
            ):
                for target in (run, *([above] if above else [])):
                    target.add(heldout(path))
            run.set_tags(tags)
            self._sent[path] = time

    def unsent(self) -> list[str]:
        """Outputs that the tracker has not confirmed."""
        return [f"{path.name}" for path, _ in self._new()]

    def _new(self) -> list[tuple[Path, int]]:
        there = [path for path in self._paths if manifest_path(path).is_file()]
        times = ((path, manifest_path(path).stat().st_mtime_ns) for path in there)
        return [(path, time) for path, time in times if self._sent.get(path) != time]


class IterationLog:
    """The nested run of one iteration; `BASE` is the initial policy."""

    def __init__(self, config: RunConfig, folder: IterationFolder, number: int) -> None:
        """Nothing is sent yet."""
        self._config, self._number = config, number
        self._curves = Curves(folder.train_log)
        outputs = (folder.synthetic, folder.triplets, folder.model, folder.metrics)
        self._outputs = Outputs(*outputs)
        self._last = folder.metrics if config.data.heldout or number == BASE else folder.model
        self._run: TrackedRun | None = None

    @property
    def name(self) -> str:
        """What people read."""
        return "initial policy" if self._number == BASE else f"iteration {self._number}"

    def send(self, server: Server, parent: TrackedRun) -> None:
        """Bring the nested run up to date with the folder.

        Args:
            server: That has the run.
            parent: The run of all iterations.
        """
        if self._run is None:
            self._run = server.begun(f"{parent.id}/{self._number}", self.name, parent=parent)
        run = self._run
        run.set_params(iteration_params(self._config, self._number))
        run.set_tags({"tspin.iteration": str(self._number)})
        self._curves.send(run)
        self._outputs.send(run, parent)
        run.set_status("FINISHED" if manifest_path(self._last).is_file() else "RUNNING")

    def end(self, status: str) -> None:
        """The run ended in the middle of this iteration, or behind it."""
        if self._run is not None and not manifest_path(self._last).is_file():
            self._run.set_status(status)

    def unsent(self) -> list[str]:
        """What the tracker has not confirmed."""
        curves = self._curves.unsent()
        missing = [*([curves] if curves else []), *self._outputs.unsent()]
        return [f"{self.name}: {', '.join(missing)}"] if missing else []
