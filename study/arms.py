"""What a cell compares: methods on a share of the annotated records, with settings of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANSWER",
    "ARMS",
    "CONTROL",
    "FIELD_ARMS",
    "SHARE",
    "START",
    "TSPIN",
    "UNTRAINED",
    "Arm",
]

SHARE = 0.25
"""Of the annotated records, for all methods but SFT on all of them."""
TSPIN = f"tspin@{SHARE}"
CONTROL = f"sft_matched@{SHARE}"
START = f"sft@{SHARE}"
"""SFT with as many epochs as self-play; some of the search starts from its policies."""
UNTRAINED = "base"
"""Stands where a method's name stands otherwise: the initial policy as it is."""
ANSWER = "ANSWER"
"""In a setting: the extractor that finds a skill's answer in any wording."""


@dataclass(frozen=True)
class Arm:
    """One line of a cell's comparison."""

    method: str
    """METHOD@SHARE, as `tspin compare` takes it; the arm's name is a label where it is another."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Besides the learning rate."""
    paced: str | None = None
    """The arm whose learning rate it takes, times `factor`; None chooses one for it."""
    factor: float = 1.0

    def asked(self, name: str) -> str:
        """As `--methods` takes it."""
        return self.method if name == self.method else f"{name}={self.method}"

    def options(self, name: str, rate: float) -> list[str]:
        """Of `tspin compare`, at a learning rate."""
        settings = {"train.learning_rate": rate, **self.settings}
        return [
            part
            for setting, value in settings.items()
            for part in ("--set-for", f"{name}:{setting}={json.dumps(value)}")
        ]


def _named(*methods: str) -> dict[str, Arm]:
    return {method: Arm(method) for method in methods}


ARMS: Mapping[str, Arm] = _named(
    TSPIN,
    f"tspin_no_history@{SHARE}",
    f"tspin_ref@{SHARE}",
    f"spin@{SHARE}",
    START,
    CONTROL,
    "sft",
)
_COUPLED = {"generate.coupled": True}
FIELD_ARMS: Mapping[str, Arm] = {
    **_named(START, CONTROL),
    # What SFT reaches where it is to keep more.
    "plain_gentle": Arm(START, paced=START, factor=0.3),
    "plain_gentler": Arm(START, paced=START, factor=0.1),
    "matched_gentle": Arm(CONTROL, paced=CONTROL, factor=0.3),
    "matched_gentler": Arm(CONTROL, paced=CONTROL, factor=0.1),
    "matched_gentlest": Arm(CONTROL, paced=CONTROL, factor=0.03),
    **_named(TSPIN, f"tspin_no_history@{SHARE}", f"spin@{SHARE}"),
    # At the rates of what they differ from in nothing else.
    "tspin_coupled": Arm(TSPIN, _COUPLED, paced=TSPIN),
    "no_history_coupled": Arm(
        f"tspin_no_history@{SHARE}", _COUPLED, paced=f"tspin_no_history@{SHARE}"
    ),
    "spin_coupled": Arm(f"spin@{SHARE}", _COUPLED, paced=f"spin@{SHARE}"),
    **_named(f"tspin_all@{SHARE}", f"space@{SHARE}"),
    "rft_4": Arm(f"rft@{SHARE}", {"train.rft_extractor": ANSWER, "generate.samples": 4}),
    # The default's words are none of these bases', and too many for the 256 tokens of `demo-known`.
    "sdft_short": Arm(f"sdft@{SHARE}", {"train.sdft_template": "{prompt}\n\n{demonstration}"}),
}
"""Of the protocol `field`: SFT at seven learning rates, and what there is besides it."""
