"""The protocol of the study in numbers; study/README.md says it in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from study.arms import ARMS, FIELD_ARMS, Arm
from study.skills import SKILLS
from tspin.files import atomic_file

__all__ = [
    "BASES",
    "DEMO_BASE",
    "FIELD",
    "FULL",
    "KNOWN",
    "KNOWN_BASES",
    "PILOT",
    "PROTOCOLS",
    "SELECTION_SEED",
    "SETTINGS",
    "Base",
    "Cell",
    "Protocol",
    "base_folder",
    "cells",
    "write_config",
]

SELECTION_SEED = 1000
"""Of the runs that choose learning rates; no final run has it."""
SETTINGS: dict[str, dict[str, float]] = {
    **{f"alpha-{alpha}": {"alpha": alpha} for alpha in (0.1, 0.3, 0.5)},
    **{f"beta-{beta}": {"beta": beta} for beta in (0.3, 0.5, 1.0)},
}
"""What claim 5 tries besides alpha 1.0 and beta 0.1."""


@dataclass(frozen=True)
class Base:
    """A size, and how good a skill has to be for the checkpoint of that skill to be taken."""

    hidden: int
    layers: int
    target: float
    """Share of probe items that a greedy answer gets right."""
    seed: int
    learning_rate: float = 3e-3
    most_steps: int = 40_000


BASES = {
    "weak": Base(hidden=96, layers=3, target=0.35, seed=0),
    "middle": Base(hidden=128, layers=4, target=0.45, seed=1),
    "strong": Base(hidden=160, layers=3, target=0.55, seed=2),
}
KNOWN_BASES = {f"{base}-known": base for base in BASES}
"""By name, the base that it goes on from."""
DEMO_BASE = "demo-known"
"""Goes on from the checkpoint that the demo ships: nothing has to be pre-trained for it."""


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
    """By base: which of `regimes.SEARCHES` looks for a regime on it."""
    confirmed: tuple[str, ...] = ()
    """Bases on which what the search saw is tried again, on test."""
    arms: Mapping[str, Arm] = field(default_factory=lambda: {**ARMS})
    """What is compared, by name."""
    rates_of: str | None = None
    """The protocol in whose results the learning rates of the arms stand that both have."""


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
FIELD = replace(
    KNOWN,
    sensitive_base=None,
    bases=(DEMO_BASE, *KNOWN_BASES),
    selected_on=DEMO_BASE,
    searches={},
    confirmed=(),
    arms=FIELD_ARMS,
    rates_of="known",
)
"""Methods that came later, on the records of `known`."""
PROTOCOLS = {"full": FULL, "known": KNOWN, "field": FIELD, "pilot": PILOT}


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


def base_folder(out: Path, base: str, skill: str) -> Path:
    """Where the checkpoint of one base for one skill stands.

    Args:
        out: The study's folder.
        base: In `BASES` or `KNOWN_BASES`.
        skill: In `SKILLS`.
    """
    return out / "bases" / base / skill


def write_config(
    path: Path, protocol: Protocol, extractor: str, *, model: Path, annotated: Path, heldout: Path
) -> None:
    """Write a configuration that `tspin compare` and `tspin run` read.

    Args:
        path: The file; runs are made beside it, in `run`.
        protocol: Its iterations, epochs and batch size.
        extractor: Finds the answer in the annotator's form.
        model: The base.
        annotated: Records of the split `train`.
        heldout: Records of the split `validation`.
    """
    config: dict[str, Any] = {
        "run_dir": str(path.with_name("run")),
        "iterations": protocol.iterations,
        "model": {"path": str(model)},
        "data": {"annotated": str(annotated), "heldout": str(heldout)},
        "prompt": {"template": "instruction", "max_length": 256},
        "generate": {"max_new_tokens": 80},
        "train": {
            "epochs": protocol.epochs,
            "global_batch_size": protocol.global_batch_size,
        },
        "evaluate": {"extractors": [extractor]},
        "gate": {"metric": f"exact_match/{extractor}/greedy", "direction": "max"},
        "system": {"generate_batch_size": 128},
    }
    with atomic_file(path) as file:
        file.write(yaml.safe_dump(config, sort_keys=False).encode())
