"""The study step by step, every run through the project's own commands; killed, it continues."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from study.arms import ANSWER, TSPIN, UNTRAINED
from study.bases import make_bases
from study.items import named_items, write_annotated
from study.protocol import (
    BASES,
    SETTINGS,
    Cell,
    Protocol,
    base_folder,
    write_config,
)
from study.rates import CHOSEN, choose_rates
from study.skills import SKILLS, Item, Split
from study.tuning import make_known
from tspin.evaluate.step import evaluate
from tspin.records.estimate import read_estimates
from tspin.runs.config_file import read_run_config
from tspin.runs.folder import BASE, RunFolder

__all__ = ["Study"]

_SIZES: tuple[tuple[Split, str], ...] = (
    ("train", "annotated"),
    ("validation", "validation"),
    ("test", "test"),
)
"""What is written of each skill, and the protocol's number of it."""
_KEPT: tuple[Split, ...] = ("validation", "test")
"""Splits on which the skills that are not taught are measured."""


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

    def selected(self, cell: Cell, rate: float) -> Path:
        """All methods with one learning rate, from the seed that chooses."""
        return self.folder(cell) / "selection" / f"{rate:g}"

    def search(self, cell: Cell, part: str | None = None) -> Path:
        """Regimes from the base, or those of one part."""
        return self.folder(cell) / ("search" if part is None else f"search-{part}")

    def confirmed(self, cell: Cell) -> Path:
        """Regimes of the search once more, on test."""
        return self.folder(cell) / "confirmed"

    def sensitive(self, cell: Cell, setting: str, seed: int) -> Path:
        """One run of T-SPIN with another alpha or beta.

        Args:
            cell: Skill and base.
            setting: In `SETTINGS`.
            seed: Of the run.
        """
        return self.folder(cell) / "sensitivity" / f"{setting}-seed-{seed}"

    def prepare(self, cells: list[Cell]) -> None:
        """Bases, and records of all splits, test among them; a second process waits meanwhile."""
        selecting = [self._selecting(cell) for cell in cells]
        unchosen = [cell for cell in selecting if not (self.folder(cell) / CHOSEN).is_file()]
        all_cells = [*cells, *unchosen]
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / ".preparing").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for base in dict.fromkeys(cell.base for cell in all_cells):
                make = make_bases if base in BASES else make_known
                skills = dict.fromkeys(cell.skill for cell in all_cells if cell.base == base)
                make(self.out, base, list(skills))
            self._write_records()

    def _write_records(self) -> None:
        for skill in SKILLS:
            for split, size in _SIZES:
                count, skip = getattr(self.protocol, size), self._skip(split)
                write_annotated(self.records(skill, split), skill, split, count, skip=skip)
            for split in _KEPT:
                count, skip = self._kept(split), self._skip(split)
                write_annotated(
                    self.records(skill, split, own=True), skill, split, count, skip=skip, own=True
                )

    def items(self, skill: str, split: Split, *, taught: bool = True) -> dict[str, Item]:
        """By id, what the records of a split are about.

        Args:
            skill: Whose records.
            split: Which of them.
            taught: False for a skill that is only measured for what is kept of it.
        """
        sizes = dict(_SIZES)
        count = getattr(self.protocol, sizes[split]) if taught else self._kept(split)
        return named_items(skill, split, count, skip=self._skip(split))

    def select(self, cell: Cell) -> dict[str, float]:
        """The learning rate of each method that chooses its own.

        Where the protocol names one base for it, rates are chosen there for all.
        """
        return choose_rates(self, self._selecting(cell))

    def rate(self, cell: Cell, name: str) -> float:
        """The learning rate of an arm, its own or a part of another one's."""
        arm = self.protocol.arms[name]
        return self.select(cell)[arm.paced or name] * arm.factor

    def compare(self, cell: Cell) -> None:
        """The final runs: from here on the test records are looked at."""
        options = ["--seeds", ",".join(map(str, self.protocol.seeds))]
        options += ["--measure", f"test={self.records(cell.skill, 'test')}"]
        options += self.measure_kept(cell, "test")
        arms = self.protocol.arms
        for name, arm in arms.items():
            options += arm.options(name, self.rate(cell, name))
        methods = [arm.asked(name) for name, arm in arms.items()]
        self.play(cell, methods, self.final(cell), options)

    def vary(self, cell: Cell) -> None:
        """T-SPIN with other alphas and betas, on validation, where the protocol says so."""
        if cell.base != self.protocol.sensitive_base:
            return
        rate = self.rate(cell, TSPIN)
        share = sorted((self.final(cell) / "data").glob("annotated-*.jsonl"))[0]  # T-SPIN's.
        for setting, values in SETTINGS.items():
            for seed in self.protocol.seeds:
                options = [f"data.annotated={share}", f"train.learning_rate={rate!r}"]
                options += [f"run_dir={self.sensitive(cell, setting, seed)}", f"seed={seed}"]
                options += [f"train.{name}={value}" for name, value in values.items()]
                sets = [part for option in options for part in ("--set", option)]
                _tspin("run", "--config", str(self._config(cell)), *sets)

    def temper(self, cell: Cell) -> None:
        """Fit a temperature on validation, measure on test: the base and the last policies."""
        for run, seed, arm in self.tempered_runs(cell):
            config = read_run_config(run.path)
            settings = config.evaluate.model_copy(update={"fit_temperature": True})
            config = config.model_copy(update={"evaluate": settings})
            number = BASE if arm == UNTRAINED else self.protocol.iterations - 1
            model = config.model.path if arm == UNTRAINED else str(run.iteration(number).model)
            temperature = None
            splits: tuple[Split, ...] = ("validation", "test")
            for split in splits:
                out = self.tempered(cell, seed, arm, split)
                evaluate(
                    config,
                    model=model,
                    annotated=self.records(cell.skill, split),
                    out=out,
                    proto=None,
                    iteration=number,
                    temperature=temperature,
                )
                # Fitted on the first split alone; the second is measured at what it is told.
                if "temperature/fitted" in (estimates := read_estimates(out)):
                    temperature = estimates["temperature/fitted"].value

    def tempered_runs(self, cell: Cell) -> Iterator[tuple[RunFolder, int, str]]:
        """Run, seed and method; for the base the run that has its configuration.

        Gentler SFT, at a part of the learning rate that was chosen, is left out.
        """
        result = self.final(cell) / "compare.json"
        if not result.is_file():
            return
        arms = json.loads(result.read_bytes())["arms"]
        own = [arm for arm in arms if self.protocol.arms[arm["name"]].factor == 1]
        for position, arm in enumerate(own):
            for run in arm["runs"]:
                folder = RunFolder(self.final(cell) / f"seed-{run['seed']}" / arm["name"])
                if position == 0:
                    yield folder, run["seed"], UNTRAINED
                yield folder, run["seed"], arm["name"]

    def tempered(self, cell: Cell, seed: int, arm: str, split: Split) -> Path:
        """The metrics of a policy at a fitted temperature.

        Args:
            cell: Skill and base.
            seed: Of the final run.
            arm: Its method, or the base.
            split: On which it was measured.
        """
        folder = self.folder(cell) / "tempered" / f"seed-{seed}"
        return folder / arm / split / "metrics.json"

    def play(self, cell: Cell, methods: Iterable[str], out: Path, options: list[str]) -> None:
        """A comparison on a cell's data and base.

        Args:
            cell: Skill and base.
            methods: As `tspin compare --methods` takes them.
            out: The comparison's folder; what is finished there is not run again.
            options: Of `tspin compare`, besides; `ANSWER` among them is the skill's.
        """
        named = ["--config", str(self._config(cell)), "--methods", ",".join(methods)]
        options = [option.replace(ANSWER, SKILLS[cell.skill].answer) for option in options]
        _tspin("compare", *named, "--out", str(out), *options)

    def measure_kept(self, cell: Cell, split: Split) -> list[str]:
        """Options of `tspin compare`: what is left of the skills that are not taught."""
        return [
            part
            for skill in cell.others
            for part in ("--measure", f"{skill}={self.records(skill, split, own=True)}")
        ]

    def _selecting(self, cell: Cell) -> Cell:
        return replace(cell, base=self.protocol.selected_on or cell.base)

    def _skip(self, split: Split) -> int:
        return self.protocol.skipped_tests if split == "test" else 0

    def _kept(self, split: Split) -> int:
        return self.protocol.test if split == "test" else self.protocol.kept

    def records(self, skill: str, split: str, *, own: bool = False) -> Path:
        """Annotated records of one split.

        Args:
            skill: Whose records.
            split: Which of them.
            own: With answers as the bases give them instead of the annotator's.
        """
        return self.out / "data" / f"{skill}-{split}{'-own' if own else ''}.jsonl"

    def _config(self, cell: Cell) -> Path:
        path = self.folder(cell) / "run.yaml"
        write_config(
            path,
            self.protocol,
            SKILLS[cell.skill].extractor,
            model=base_folder(self.out, cell.base, cell.skill),
            annotated=self.records(cell.skill, "train"),
            heldout=self.records(cell.skill, "validation"),
        )
        return path


def _tspin(*arguments: str) -> None:
    typer.echo(f"tspin {' '.join(arguments)}")
    subprocess.run([sys.executable, "-m", "tspin", *arguments], check=True)
