"""What a search is made of: settings of a method, and parts with a start of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.reproduction.protocol import CONTROL, SHARE, TSPIN, UNTRAINED
from tspin.compare.arms import MATCHED

__all__ = ["CONFIRMING_SEEDS", "SEARCH_SEEDS", "START", "Part", "Regime", "Search"]

SEARCH_SEEDS = (1001,)
"""Of the search; no final run has it."""
CONFIRMING_SEEDS = (2001, 2002, 2003)
"""Of the runs that try again what the search saw."""
START = f"sft@{SHARE}"
"""Runs beside the regimes from the base; some start from its policies."""


@dataclass(frozen=True)
class Regime:
    """One arm of the search."""

    arm: str
    """METHOD@SHARE."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Besides the learning rate."""
    rates: tuple[float, ...] = (1.0,)
    """By iteration, times the learning rate that was chosen for `like`; the last one stays."""
    paced: str | None = None
    """The arm of the final runs whose learning rate counts; None is the one nearest to it."""

    @property
    def control(self) -> bool:
        """Whether it is SFT, with whatever compute and data, or the base as it is."""
        return self.arm.startswith("sft") or self.arm == UNTRAINED

    @property
    def like(self) -> str:
        """The arm of the final runs whose learning rate counts."""
        if self.paced is not None:
            return self.paced
        if self.arm in ("sft", START):
            return self.arm
        return CONTROL if self.arm.startswith(MATCHED) else TSPIN

    def options(self, label: str, rate: float) -> list[str]:
        """Of `tspin compare`, given the learning rate of `like`."""
        rates = [factor * rate for factor in self.rates]
        told = {"train.learning_rate": rates if len(rates) > 1 else rates[0], **self.settings}
        return [
            part
            for name, value in told.items()
            for part in ("--set-for", f"{label}:{name}={json.dumps(value)}")
        ]


@dataclass(frozen=True)
class Part:
    """Regimes that come later, most from another policy or on other records."""

    regimes: Mapping[str, Regime]
    policy: str | None = None
    """The arm of the search from the base whose last policy they start from; None is the base."""
    copies: int = 1
    """Of each annotated record of the share: so many y' a prompt."""

    @property
    def plain(self) -> bool:
        """Whether it begins as what comes from the base does: its controls are the same."""
        return self.policy is None and self.copies == 1


@dataclass(frozen=True)
class Search:
    """All that one protocol tries."""

    from_base: Mapping[str, Regime]
    """From the base, as it is; `START` runs beside them."""
    parts: Mapping[str, Part]

    def regimes(self) -> dict[str, dict[str, Regime]]:
        """By start: the base, with `START`, itself and plain parts, then every other part."""
        others = {UNTRAINED: Regime(UNTRAINED), START: Regime(START)}
        made = {"base": {**self.from_base, **others}}
        for name, part in self.parts.items():
            made.setdefault("base" if part.plain else name, {}).update(part.regimes)
        return made
