"""When does self-play win? Settings of T-SPIN and of its control that each protocol's search tries.

All is judged on validation, so that test records stay unseen until a regime is confirmed. Where the
annotator's form is known, the search tries what the one on bases to which it is new left open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.arms import ANSWER, CONTROL, START, TSPIN, UNTRAINED
from tspin.compare.arms import MATCHED

__all__ = [
    "CONFIRMED",
    "CONFIRMING_SEEDS",
    "KNOWN_FORM",
    "NEW_FORM",
    "SEARCHES",
    "SEARCH_SEEDS",
    "Part",
    "Regime",
    "Search",
]

SEARCH_SEEDS = (1001,)
"""Of the search; no final run has it."""
CONFIRMING_SEEDS = (2001, 2002, 2003)
"""Of the runs that try again what the search saw."""


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
        settings = {"train.learning_rate": rates if len(rates) > 1 else rates[0], **self.settings}
        return [
            part
            for name, value in settings.items()
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
        regimes = {"base": {**self.from_base, **others}}
        for name, part in self.parts.items():
            regimes.setdefault("base" if part.plain else name, {}).update(part.regimes)
        return regimes


COPIES = 4
FEW = 0.0625

_NEW_FROM_BASE: Mapping[str, Regime] = {
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

_NEW_FROM_SFT: Mapping[str, Regime] = {
    "warm": Regime(TSPIN),
    "warm_gentle": Regime(TSPIN, rates=(0.3,)),
    "warm_gentler": Regime(TSPIN, rates=(0.1,)),
    "warm_sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, (0.3,)),
    "warm_matched": Regime(CONTROL),
    "warm_matched_gentle": Regime(CONTROL, rates=(0.3,)),
    "warm_matched_gentler": Regime(CONTROL, rates=(0.1,)),
}
"""From a policy that SFT has already taught the same annotated data, as the papers' Zephyr was."""

_NEW_FROM_MATCHED: Mapping[str, Regime] = {
    "spent": Regime(TSPIN, rates=(0.1,)),
    "spent_gentle": Regime(TSPIN, rates=(0.03,)),
    "spent_sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, (0.1,)),
    "spent_matched": Regime(CONTROL, rates=(0.1,)),
    "spent_matched_gentle": Regime(CONTROL, rates=(0.03,)),
}
"""From a policy on which SFT has spent the compute of self-play already: is there more to get?"""

_NEW_ON_ALL: Mapping[str, Regime] = {
    "all": Regime("tspin"),
    "all_gentle": Regime("tspin", rates=(0.3,)),
    "all_gentler": Regime("tspin", rates=(0.1,)),
    "all_sft": Regime("sft"),
}
"""From the base, on all annotated records: four times as many."""

_NEW_UNSATURATED: Mapping[str, Regime] = {
    "alpha_tenth": Regime(TSPIN, {"train.alpha": 0.1}),
    "alpha_hundredth": Regime(TSPIN, {"train.alpha": 0.01}),
    "alpha_hundredth_fast": Regime(TSPIN, {"train.alpha": 0.01}, paced=CONTROL),
    "alpha_hundredth_medium": Regime(TSPIN, {"train.alpha": 0.01}, (0.3,), CONTROL),
}
"""A gap of some nats saturates the loss no longer; the optimizer divides alpha out again."""

NEW_FORM = Search(
    _NEW_FROM_BASE,
    {
        "unsaturated": Part(_NEW_UNSATURATED),
        "all": Part(_NEW_ON_ALL),
        "warm": Part(_NEW_FROM_SFT, policy=START),
        "spent": Part(_NEW_FROM_MATCHED, policy="matched_gentle"),
    },
)
"""On bases to which the annotator's form is new."""

_KNOWN_FROM_BASE: Mapping[str, Regime] = {
    "papers": Regime(TSPIN),
    "gentle": Regime(TSPIN, rates=(0.3,)),
    "alpha_tenth": Regime(TSPIN, {"train.alpha": 0.1}),
    "alpha_hundredth": Regime(TSPIN, {"train.alpha": 0.01}),
    "wrong_only": Regime(TSPIN, {"triplets.same_answer": ANSWER}),
    "sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, paced=CONTROL),
    "sft_weight_100": Regime(TSPIN, {"train.sft_weight": 100.0}, paced=CONTROL),
    "sft_weight_100_gentle": Regime(TSPIN, {"train.sft_weight": 100.0}, (0.3,), CONTROL),
    "normalised": Regime(
        TSPIN, {"train.length_normalised": True, "train.sft_weight": 1.0}, paced=CONTROL
    ),
    "matched": Regime(CONTROL),
    "matched_gentle": Regime(CONTROL, rates=(0.3,)),
    "matched_gentler": Regime(CONTROL, rates=(0.1,)),
    "matched_gentlest": Regime(CONTROL, rates=(0.03,)),
    "plain_gentle": Regime(START, rates=(0.3,)),
    "plain_gentler": Regime(START, rates=(0.1,)),
}

_KNOWN_SEVERAL: Mapping[str, Regime] = {
    "several": Regime("tspin", paced=TSPIN),
    "several_wrong_only": Regime("tspin", {"triplets.same_answer": ANSWER}, paced=TSPIN),
    "several_sft_weight_10": Regime("tspin", {"train.sft_weight": 10.0}, paced=CONTROL),
    "several_matched": Regime("sft_matched", paced=CONTROL),
}
"""Several y' a prompt: every record stands there as often, under other ids."""

KNOWN_FORM = Search(_KNOWN_FROM_BASE, {"several": Part(_KNOWN_SEVERAL, copies=COPIES)})
"""On bases that know the annotator's form."""
KNOWN_FORM_ONCE = Search(_KNOWN_FROM_BASE, {})
"""The same with one y' a prompt."""
SEARCHES = {"new": NEW_FORM, "known": KNOWN_FORM, "known_once": KNOWN_FORM_ONCE}
"""By the names of `Protocol.searches`."""
CONFIRMED: Mapping[str, tuple[str, ...]] = {
    "extraction": ("papers",),
    "sums": ("papers", "gentle", "wrong_only"),
}
"""By skill: regimes of `KNOWN_FORM` that the search saw more than 0.05 above SFT on some base."""
