"""One run of the benchmark: a model, the measurements asked for, the files they go into."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch
import typer

from benchmarks.markdown import replace_section
from benchmarks.training import tables
from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.environment import environment
from benchmarks.training.gsm8k import GSM8K, TRIPLETS
from benchmarks.training.lengths import PROFILES
from benchmarks.training.longest_batch import longest_batches
from benchmarks.training.models import make_model
from benchmarks.training.peak_memory import peaks
from benchmarks.training.result import profile_result
from benchmarks.training.rounds import run_rounds
from benchmarks.training.scaling import growth, measure_growth
from benchmarks.training.task import SEED, Task
from tspin.files import write_json

__all__ = ["Benchmark"]


class Benchmark:
    """Measures, prints what it finds, and keeps its files up to date after each measurement."""

    def __init__(
        self,
        model: str,
        device: Literal["cpu", "cuda"],
        dtype: Literal["float32", "bfloat16"],
        lora: bool,
        tokens: int | None,
        gsm8k: str | None,
        json: Path | None,
        document: Path | None,
    ) -> None:
        """Set up; the arguments are those of `command.run`."""
        self._json, self._document = json, document
        self._scratch = tempfile.TemporaryDirectory()
        self._out = Path(self._scratch.name) / "out"
        self._settings: dict[str, Any] = {
            "model": model,
            "device": device,
            "dtype": dtype,
            "lora": lora,
            "tokens": tokens,
            "gsm8k": gsm8k,
            "folder": str(Path(self._scratch.name) / "model"),
        }
        self._found: dict[str, Any] = {"environment": environment(device), "profiles": {}}

    def __enter__(self) -> Self:
        settings = self._settings
        torch.manual_seed(SEED)
        # As it is loaded: bfloat16 where only an adapter is trained.
        dtype = getattr(torch, settings["dtype"]) if settings["lora"] else torch.float32
        with torch.device(settings["device"]):
            parameters = make_model(settings["model"], Path(settings["folder"]), dtype)
        self._found["model"] = {
            "size": settings["model"],
            "parameters": parameters,
            "dtype": settings["dtype"],
            "lora": settings["lora"],
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scratch.cleanup()

    def profile(self, name: str, batch: int, rounds: int) -> None:
        """Time and peak memory of all contenders on one profile.

        Args:
            name: Of the lengths.
            batch: Triplets a step.
            rounds: Of each contender, in turn.
        """
        task = self._task(name, batch)
        taken = []
        for number, one in enumerate(run_rounds(task, rounds, self._out), start=1):
            taken.append(one)
            seconds = ", ".join(f"{who} {value:.2f} s" for who, value in one.seconds.items())
            typer.echo(f"{name}, round {number}: {seconds}")
        result = profile_result(task, taken, peaks(task, list(CONTENDERS)))
        self._found["profiles"][name] = result
        self._show("training", tables.profiles_tables(self._found["profiles"]))

    def longest_batch(self, name: str) -> None:
        """The most triplets in one forward and backward pass."""
        sizes = longest_batches(self._task(name, 1))
        self._found.setdefault("longest_batch", {})[name] = sizes
        self._show("training-longest-batch", tables.longest_table(self._found["longest_batch"]))

    def growth(self, rounds: int) -> None:
        """The cost of a step by the tokens in its batch."""
        costs = list(measure_growth(self._task("ultrachat-like", 1), rounds, self._out))
        result = {"costs": [asdict(cost) for cost in costs], "exponent": growth(costs)}
        self._found["growth"] = result
        self._show("training-growth", tables.growth_table(result))

    def _task(self, name: str, batch: int) -> Task:
        triplets = TRIPLETS if name == GSM8K else PROFILES[name].triplets
        return Task(profile=name, batch=batch, steps=math.ceil(triplets / batch), **self._settings)

    def _show(self, section: str, text: str) -> None:
        where = tables.environment_line(self._found["environment"], self._found["model"])
        typer.echo(f"\n{where}\n\n{text}\n")
        if self._json is not None:
            write_json(self._json, self._found)
        if self._document is not None:
            replace_section(self._document, section, f"{where}\n\n{text}")
