"""The study step by step, every run through the project's own commands; killed, it continues."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from benchmarks.reproduction.bases import base_folder, make_bases
from benchmarks.reproduction.data import write_annotated
from benchmarks.reproduction.protocol import ARMS, SELECTION_SEED, SETTINGS, Cell, Protocol
from benchmarks.reproduction.skills import SKILLS, Split
from tspin.files import atomic_file, write_json

__all__ = ["Study"]

_SIZES: tuple[tuple[Split, str], ...] = (
    ("train", "annotated"),
    ("validation", "validation"),
    ("test", "test"),
)
"""What is written of each skill, and the protocol's number of it."""


@dataclass(frozen=True)
class Study:
    """All work of one protocol below one folder."""

    out: Path
    protocol: Protocol

    def folder(self, cell: Cell) -> Path:
        """Of one cell's runs."""
        return self.out / "cells" / cell.skill / cell.base

    def final(self, cell: Cell) -> Path:
        """The comparison that counts."""
        return self.folder(cell) / "final"

    def sensitive(self, cell: Cell, setting: str, seed: int) -> Path:
        """One run of T-SPIN with another alpha or beta."""
        return self.folder(cell) / "sensitivity" / f"{setting}-seed-{seed}"

    def prepare(self, cells: list[Cell]) -> None:
        """Bases, and records of all splits; test records are written, and read by nothing yet."""
        for base in dict.fromkeys(cell.base for cell in cells):
            make_bases(self.out, base, [cell.skill for cell in cells if cell.base == base])
        for skill in SKILLS:
            for split, size in _SIZES:
                path = self._records(skill, split)
                skip = self.protocol.skipped_tests if split == "test" else 0
                write_annotated(path, skill, split, getattr(self.protocol, size), skip=skip)
            out, skip = self._retention(skill), self.protocol.skipped_tests
            write_annotated(out, skill, "test", self.protocol.test, skip=skip, own=True)

    def select(self, cell: Cell) -> dict[str, float]:
        """The learning rate of each method: all are tried on validation with the same budget.

        The best is the one with the highest mean of greedy and sampled exactness after any of its
        iterations; among equals the lower negative log-likelihood there, then the lower rate.
        """
        chosen = self.folder(cell) / "learning_rates.json"
        if not chosen.is_file():
            tried: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
            for rate in self.protocol.learning_rates:
                out = self.folder(cell) / "selection" / f"{rate:g}"
                overrides = [f"train.learning_rate={rate!r}", f"seed={SELECTION_SEED}"]
                self._compare(cell, out, [_set for each in overrides for _set in ("--set", each)])
                for arm in json.loads((out / "compare.json").read_bytes())["arms"]:
                    trained = [m for label, m in arm["by_iteration"].items() if label != "base"]
                    score = max(_selection_score(metrics, cell) for metrics in trained)
                    tried[arm["name"]].append((*score, -rate))
            best = {arm: max(scores) for arm, scores in tried.items()}
            write_json(chosen, {arm: -score[-1] for arm, score in best.items()})
        found: dict[str, float] = json.loads(chosen.read_bytes())
        return found

    def compare(self, cell: Cell) -> None:
        """The final runs: from here on the test records are looked at."""
        rates = self.select(cell)
        options = ["--seeds", ",".join(map(str, self.protocol.seeds))]
        options += ["--measure", f"test={self._records(cell.skill, 'test')}"]
        for skill in cell.others:
            options += ["--measure", f"{skill}={self._retention(skill)}"]
        for arm, rate in rates.items():
            options += ["--set-for", f"{arm}:train.learning_rate={rate!r}"]
        self._compare(cell, self.final(cell), options)

    def vary(self, cell: Cell) -> None:
        """T-SPIN with other alphas and betas, on validation."""
        rate = self.select(cell)[ARMS[0]]
        # As in the comparison: the share that its T-SPIN was trained on.
        share = sorted((self.final(cell) / "data").glob("annotated-*.jsonl"))[0]
        for setting, values in SETTINGS.items():
            for seed in self.protocol.seeds:
                options = [f"data.annotated={share}", f"train.learning_rate={rate!r}"]
                options += [f"run_dir={self.sensitive(cell, setting, seed)}", f"seed={seed}"]
                options += [f"train.{name}={value}" for name, value in values.items()]
                sets = [part for option in options for part in ("--set", option)]
                _tspin("run", "--config", str(self._config(cell)), *sets)

    def _compare(self, cell: Cell, out: Path, options: list[str]) -> None:
        given = ["--config", str(self._config(cell)), "--methods", ",".join(ARMS)]
        _tspin("compare", *given, "--out", str(out), *options)

    def _records(self, skill: str, split: str) -> Path:
        return self.out / "data" / f"{skill}-{split}.jsonl"

    def _retention(self, skill: str) -> Path:
        return self.out / "data" / f"{skill}-test-own.jsonl"

    def _config(self, cell: Cell) -> Path:
        path = self.folder(cell) / "run.yaml"
        extractor = SKILLS[cell.skill].extractor
        protocol = self.protocol
        config: dict[str, Any] = {
            "run_dir": str(self.folder(cell) / "run"),
            "iterations": protocol.iterations,
            "model": {"path": str(base_folder(self.out, cell.base, cell.skill))},
            "data": {
                "annotated": str(self._records(cell.skill, "train")),
                "heldout": str(self._records(cell.skill, "validation")),
            },
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
        return path


def _selection_score(metrics: dict[str, Any], cell: Cell) -> tuple[float, float]:
    name = f"exact_match/{SKILLS[cell.skill].extractor}"
    exact = [metrics[f"{name}/{mode}"]["value"] for mode in ("greedy", "sampled")]
    return sum(exact) / 2, -metrics["nll_per_token"]["value"]


def _tspin(*arguments: str) -> None:
    typer.echo(f"tspin {' '.join(arguments)}")
    subprocess.run([sys.executable, "-m", "tspin", *arguments], check=True)
