"""When does self-play win? Settings of T-SPIN and of its control that the search tries.

The papers' setting is not among them: the final runs have it. Everything here is judged on
validation, so that test records stay unseen until a regime is confirmed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.reproduction.protocol import CONTROL, SHARE, TSPIN
from tspin.compare.arms import MATCHED

__all__ = ["FEW", "NEW", "SEARCH_SEEDS", "START", "Part", "Regime", "Search"]

SEARCH_SEEDS = (1001,)
"""Of the search; no final run has it."""
FEW = 0.0625
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
    def like(self) -> str:
        """The arm of the final runs whose learning rate counts."""
        if self.paced is not None:
            return self.paced
        if self.arm == "sft":
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
    """Regimes that are not run on the base and the annotated records as they are."""

    regimes: Mapping[str, Regime]
    policy: str | None = None
    """The arm of the search from the base whose last policy they start from; None is the base."""
    copies: int = 1
    """Of each annotated record of the share: so many y' a prompt."""


@dataclass(frozen=True)
class Search:
    """All that one protocol tries."""

    from_base: Mapping[str, Regime]
    """From the base, as it is; `START` runs beside them."""
    parts: Mapping[str, Part]

    def regimes(self) -> dict[str, Mapping[str, Regime]]:
        """By part, what comes from the base first, and `START` with it."""
        from_base = {**self.from_base, START: Regime(START)}
        return {"base": from_base} | {name: part.regimes for name, part in self.parts.items()}


_FROM_BASE: Mapping[str, Regime] = {
    "papers": Regime(TSPIN),
    "gentle": Regime(TSPIN, rates=(0.3,)),
    "falling": Regime(TSPIN, rates=(1.0, 0.5, 0.25, 0.125)),
    "sft_weight_1": Regime(TSPIN, {"train.sft_weight": 1.0}),
    "sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}),
    "normalised": Regime(TSPIN, {"train.length_normalised": True}),
    "filtered": Regime(TSPIN, {"triplets.identical": "drop", "triplets.truncated": "drop"}),
    "matched": Regime(CONTROL),
    "matched_gentle": Regime(CONTROL, rates=(0.3,)),
    "few": Regime(f"tspin@{FEW}"),
    "few_matched": Regime(f"{MATCHED}@{FEW}"),
}

_FROM_SFT: Mapping[str, Regime] = {
    "warm": Regime(TSPIN),
    "warm_gentle": Regime(TSPIN, rates=(0.3,)),
    "warm_gentler": Regime(TSPIN, rates=(0.1,)),
    "warm_sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, (0.3,)),
    "warm_matched": Regime(CONTROL),
    "warm_matched_gentle": Regime(CONTROL, rates=(0.3,)),
    "warm_matched_gentler": Regime(CONTROL, rates=(0.1,)),
}
"""From a policy that SFT has already taught the same annotated data, as the papers' Zephyr was."""

_FROM_MATCHED: Mapping[str, Regime] = {
    "spent": Regime(TSPIN, rates=(0.1,)),
    "spent_gentle": Regime(TSPIN, rates=(0.03,)),
    "spent_sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, (0.1,)),
    "spent_matched": Regime(CONTROL, rates=(0.1,)),
    "spent_matched_gentle": Regime(CONTROL, rates=(0.03,)),
}
"""From a policy on which SFT has spent the compute of self-play already: is there more to get?"""

_ON_ALL: Mapping[str, Regime] = {
    "all": Regime("tspin"),
    "all_gentle": Regime("tspin", rates=(0.3,)),
    "all_gentler": Regime("tspin", rates=(0.1,)),
    "all_sft": Regime("sft"),
}
"""From the base, on all annotated records: four times as many."""

NEW = Search(
    _FROM_BASE,
    {
        "all": Part(_ON_ALL),
        "warm": Part(_FROM_SFT, policy=START),
        "spent": Part(_FROM_MATCHED, policy="matched_gentle"),
    },
)
"""On bases to which the annotator's form is new."""
