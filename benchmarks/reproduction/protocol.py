"""The protocol of the study in numbers; docs/reproduction.md says it in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.reproduction.bases import BASES
from benchmarks.reproduction.known import KNOWN_BASES
from benchmarks.reproduction.skills import SKILLS

__all__ = [
    "ARMS",
    "CONTROL",
    "FULL",
    "KNOWN",
    "PILOT",
    "PROTOCOLS",
    "SELECTION_SEED",
    "SETTINGS",
    "SHARE",
    "TSPIN",
    "UNTRAINED",
    "Cell",
    "Protocol",
    "cells",
]

SHARE = 0.25
"""Of the annotated records, for all methods but SFT on all of them."""
TSPIN = f"tspin@{SHARE}"
CONTROL = f"sft_matched@{SHARE}"
UNTRAINED = "base"
"""Stands where a method's name stands otherwise: the initial policy as it is."""
ARMS = (
    TSPIN,
    f"tspin_no_history@{SHARE}",
    f"tspin_ref@{SHARE}",
    f"spin@{SHARE}",
    f"sft@{SHARE}",
    CONTROL,
    "sft",
)
SELECTION_SEED = 1000
"""Of the runs that choose learning rates; no final run has it."""
SETTINGS: dict[str, dict[str, float]] = {
    **{f"alpha-{alpha}": {"alpha": alpha} for alpha in (0.1, 0.3, 0.5)},
    **{f"beta-{beta}": {"beta": beta} for beta in (0.3, 0.5, 1.0)},
}
"""What claim 5 tries besides alpha 1.0 and beta 0.1."""


@dataclass(frozen=True)
class Protocol:
    """How large everything is."""

    annotated: int
    validation: int
    test: int
    kept: int
    """Validation records of each skill that is not taught."""
    iterations: int
    selection_iterations: int
    """Of the runs that choose learning rates."""
    epochs: int
    global_batch_size: int
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    """The same for every method."""
    skipped_tests: int
    """First items of the test split that are left out."""
    sensitive_base: str | None
    """The base that claim 5 is tried on."""
    bases: tuple[str, ...] = tuple(BASES)
    selected_on: str | None = None
    """The base whose learning rates all bases take; None chooses them on each."""
    searches: Mapping[str, str] = field(default_factory=dict)
    """By base: which of `searches.SEARCHES` looks for a regime on it."""
    confirmed: tuple[str, ...] = ()
    """Bases on which what the search saw is tried again, on test."""


FULL = Protocol(
    annotated=1024,
    validation=128,
    test=256,
    kept=64,
    iterations=5,
    selection_iterations=3,
    epochs=2,
    global_batch_size=16,
    seeds=(0, 1, 2),
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    skipped_tests=128,  # Those of the pilot.
    sensitive_base="weak",
    searches={"weak": "new"},
)
PILOT = Protocol(
    annotated=512,
    validation=64,
    test=128,
    kept=64,
    iterations=3,
    selection_iterations=3,
    epochs=2,
    global_batch_size=16,
    seeds=(0,),
    learning_rates=(1e-4, 3e-4, 1e-3),
    skipped_tests=0,
    sensitive_base=None,
)
"""Shows that the machinery works and how long it takes; too small to decide anything."""
KNOWN = replace(
    FULL,
    annotated=512,
    skipped_tests=128 + 256,  # Those of the pilot and of the protocol `full`.
    sensitive_base="weak-known",
    bases=tuple(KNOWN_BASES),
    selected_on="weak-known",
    searches={"weak-known": "known", "middle-known": "known_once", "strong-known": "known_once"},
    confirmed=tuple(KNOWN_BASES),
)
"""On bases that know the annotator's form, with half the records."""
PROTOCOLS = {"full": FULL, "known": KNOWN, "pilot": PILOT}


@dataclass(frozen=True)
class Cell:
    """One skill that is taught to one base."""

    skill: str
    base: str

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.skill}/{self.base}"

    @property
    def others(self) -> list[str]:
        """The skills that are not taught: what is measured for retention."""
        return [skill for skill in SKILLS if skill != self.skill]


def cells(protocol: Protocol) -> list[Cell]:
    """All of the study."""
    return [Cell(skill, base) for base in protocol.bases for skill in SKILLS]
