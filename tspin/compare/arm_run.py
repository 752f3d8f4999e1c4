"""One method from one seed, finished: what it was and where its outputs are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tspin.compare.arms import Arm
from tspin.compare.cost import Cost
from tspin.config import RunConfig
from tspin.runs.folder import BASE, RunFolder
from tspin.train.log import read_train_log

__all__ = ["HELDOUT", "MOMENTS", "ArmRun"]

HELDOUT = "heldout"
MOMENTS = ("base", "best", "last")
"""The initial policy, the best on the held-out records, and the last."""


@dataclass(frozen=True)
class ArmRun:
    """One method from one seed, finished."""

    arm: Arm
    seed: int
    config: RunConfig
    iterations: tuple[int, ...]
    best: int
    stopped: str | None
    heldout: dict[int, Path]
    """Iteration (`BASE` too) to metrics on the held-out records."""
    measured: dict[str, dict[int, Path]] = field(default_factory=dict)
    """The same on further sets, by name."""
    sets: Mapping[str, Path] = field(default_factory=dict)
    """The records of each set, the held-out ones too."""
    cost: Cost = field(default_factory=Cost)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by step."""

    @classmethod
    def read(cls, arm: Arm, seed: int, config: RunConfig, folder: RunFolder) -> ArmRun:
        """What `tspin.selfplay.run` has left."""
        best = json.loads(folder.best.read_bytes())
        done = [number for number in range(config.iterations) if _made(folder, number)]
        metrics = {number: folder.iteration(number).metrics for number in [BASE, *done]}
        return cls(arm, seed, config, tuple(done), best["iteration"], best["stopped"], metrics)

    def completed(
        self,
        cost: Cost,
        seconds: Mapping[str, float],
        measured: dict[str, dict[int, Path]],
        sets: Mapping[str, Path],
    ) -> ArmRun:
        """The same with what was found out about it later."""
        return replace(self, cost=cost, seconds=seconds, measured=measured, sets=sets)

    def records(self, dataset: str) -> Path:
        """What was measured on."""
        return self.sets[dataset]

    @property
    def last(self) -> int:
        """The last iteration."""
        return self.iterations[-1]

    def metrics_at(self, dataset: str, moment: str) -> Path:
        """metrics.json of one of `MOMENTS` on the held-out or on a further set."""
        number = {"base": BASE, "best": self.best, "last": self.last}[moment]
        return (self.heldout if dataset == HELDOUT else self.measured[dataset])[number]

    def logs(self) -> list[list[dict[str, Any]]]:
        """By iteration, the rows of its train_log.jsonl."""
        folder = RunFolder(Path(self.config.run_dir))
        paths = (folder.iteration(number).path / "train_log.jsonl" for number in self.iterations)
        return [read_train_log(path) for path in paths]


def _made(folder: RunFolder, number: int) -> bool:
    made = folder.iteration(number)
    return made.model.is_dir() and made.metrics.is_file()
