"""What is compared: a method on a share of the annotated data, perhaps with its own settings."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tspin.compare.cost import Cost
from tspin.config import Method, RunConfig
from tspin.errors import InputError
from tspin.records.training_log import read_train_log
from tspin.runs.folder import BASE, RunFolder

__all__ = ["HELDOUT", "MATCHED", "MOMENTS", "Arm", "ArmRun", "parse_arms"]


MATCHED = "sft_matched"
"""Supervised fine-tuning with the compute of the self-play methods (docs/guides/compare.md)."""

_FIELD = "field"
"""In the place of a method: those between which a user chooses, at equal annotated data."""
_OF_FIELD = (MATCHED, "sft", "rft", "spin", "tspin", "space", "sdft")
"""The control first: the others are set against it, unless the user says otherwise."""

_NAMES: tuple[str, ...] = (*get_args(Method), MATCHED)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Arm:
    """One method of a comparison."""

    name: str
    """`METHOD` or `METHOD@SHARE` as the user wrote it, or the label in front of that; also the name
    of its folder."""
    method: Method
    share: float
    """Of the annotated records, in (0, 1]."""
    matched: bool
    """Whether its epochs follow from what the self-play methods cost."""

    @property
    def plays(self) -> bool:
        """Whether it is a self-play method."""
        return self.method != "sft"

    @classmethod
    def parse(cls, text: str) -> Arm:
        """From `METHOD` or `METHOD@SHARE`, either with `LABEL=` in front.

        Raises:
            InputError: no such method, no such share, or a label that names no folder.
        """
        label, labelled, told = text.rpartition("=")
        if labelled and (not _LABEL.fullmatch(label) or label in _NAMES):
            raise InputError(
                f"--methods {text}: the label is {label!r}; give letters, digits, '-' and '_', and "
                "not a method's name"
            )
        name, separator, amount = told.partition("@")
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(
                f"--methods: no method is named {name!r}; {hint}the names are: "
                f"{', '.join((*_NAMES, _FIELD))}"
            )
        try:
            share = float(amount) if separator else 1.0
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise InputError(
                f"--methods {text}: the share of the annotated records is {amount!r}; give a "
                "number above 0 and up to 1, such as 0.25"
            )
        matched = name == MATCHED
        method: Method = "sft" if matched else name  # type: ignore[assignment]
        return cls(label or text, method, share, matched)

    @property
    def labelled(self) -> bool:
        """Whether the user gave it a name, for settings of its own."""
        return self.name.partition("@")[0] not in _NAMES


def parse_arms(names: Iterable[str]) -> list[Arm]:
    """What is compared, in the order given; `field` stands for several.

    Raises:
        InputError: nothing to compare, a name twice, no such method, or `sft_matched` without a
            self-play method on the same share, whose compute it could get.
    """
    arms = [Arm.parse(name) for text in names for name in _expanded(text.strip()) if name]
    if len(arms) < 2:
        raise InputError("--methods: give at least two, such as tspin,sft_matched")
    for at, arm in enumerate(arms):
        if any(_same(arm, other) for other in arms[:at]):
            raise InputError(f"--methods: {arm.name!r} is given twice")
        if arm.matched and not _opponents(arms, arm):
            raise InputError(
                f"--methods: {arm.name!r} gets the compute of the self-play methods on the same "
                "share of the data, and none is given; add tspin or spin"
            )
    return arms


def _expanded(text: str) -> list[str]:
    name, separator, share = text.partition("@")
    if name != _FIELD:
        return [text]
    return [f"{method}{separator}{share}" for method in _OF_FIELD]


def _opponents(arms: Sequence[Arm], matched: Arm) -> list[Arm]:
    return [arm for arm in arms if arm.plays and arm.share == matched.share]


def _same(arm: Arm, other: Arm) -> bool:
    if arm.labelled or other.labelled:
        return arm.name == other.name
    return (arm.method, arm.share, arm.matched) == (other.method, other.share, other.matched)


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
        """What `tspin.selfplay.run` has left.

        Args:
            arm: That was run.
            seed: It was run with.
            config: Of the run.
            folder: The run, finished.
        """
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
        """The same with what was found out about it later.

        Args:
            cost: Tokens and floating-point operations.
            seconds: Wall time by step.
            measured: By set of records and iteration, the metrics.json.
            sets: By name of a set, its annotated records.
        """
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
    outputs = folder.iteration(number)
    return outputs.model.is_dir() and outputs.metrics.is_file()
