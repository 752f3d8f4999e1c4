"""The run folder: where everything of a run stands, and what guards it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tspin.config import RunConfig, config_differences, resolved
from tspin.errors import InputError
from tspin.files import write_json
from tspin.records.arithmetic import Arithmetic, read_arithmetic
from tspin.records.training_log import TRAIN_LOG
from tspin.runs.config_file import run_values, write_run_config
from tspin.runs.inputs import Data

__all__ = ["BASE", "EvaluationFiles", "IterationFolder", "RunFolder"]

BASE = -1
"""The iteration number of the initial policy in metrics and in best.json."""


@dataclass(frozen=True)
class EvaluationFiles:
    """What stands beside a metrics.json, named after it."""

    metrics: Path

    def answers(self, mode: str) -> Path:
        """Response records of one decoding: `greedy`, `sampled` or `fitted`."""
        return self._beside(f"{mode}.jsonl")

    @property
    def samples(self) -> Path:
        """A few of the held-out records, for whoever reads the run folder alone."""
        return self._beside("samples.jsonl")

    @property
    def likelihoods(self) -> Path:
        """How likely the policy finds each annotation."""
        return self._beside("likelihoods.jsonl")

    @property
    def temperature(self) -> Path:
        """The fitted sampling temperature."""
        return self._beside("temperature.json")

    def task(self, name: str) -> Path:
        """The scores of one task of lm-evaluation-harness."""
        return self._beside(f"task.{name}.json")

    @property
    def all_beside(self) -> Iterator[Path]:
        """Whatever an evaluation may write, but for the scores of tasks."""
        yield from (self.answers(mode) for mode in ("greedy", "sampled", "fitted"))
        yield from (self.samples, self.likelihoods, self.temperature)

    def _beside(self, ending: str) -> Path:
        return self.metrics.with_name(f"{self.metrics.stem}.{ending}")


@dataclass(frozen=True)
class IterationFolder:
    """`iter-N`: what one iteration made."""

    path: Path

    @property
    def synthetic(self) -> Path:
        """Responses of the policy that the iteration starts from."""
        return self.path / "synthetic.jsonl"

    @property
    def triplets(self) -> Path:
        """What the iteration trains on."""
        return self.path / "triplets.jsonl"

    @property
    def model(self) -> Path:
        """The policy that the iteration ends with."""
        return self.path / "model"

    @property
    def train_log(self) -> Path:
        """What the training logged, a line an optimiser step."""
        return self.path / TRAIN_LOG

    @property
    def metrics(self) -> Path:
        """Evaluation of that policy."""
        return self.path / "metrics.json"


@dataclass(frozen=True)
class RunFolder:
    """`runs/NAME`: one run, whole or on its way."""

    path: Path

    @property
    def proto(self) -> Path:
        """y0: responses of the initial policy, generated once."""
        return self.path / "proto.jsonl"

    @property
    def heldout_proto(self) -> Path:
        """Responses of the initial policy to the held-out prompts."""
        return self.path / "heldout_proto.jsonl"

    @property
    def best(self) -> Path:
        """Which iteration is the best, and why the run stopped if it stopped early."""
        return self.path / "best.json"

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.path / "report.html"

    @property
    def arithmetic(self) -> Path:
        """What the run was begun with: threads, device, torch, BLAS (`tspin.models.threads`)."""
        return self.path / "arithmetic.json"

    def begun(self) -> Arithmetic | None:
        """What the run was begun with; None where that is unknown."""
        return read_arithmetic(self.arithmetic)

    def numbers(self) -> list[int]:
        """Of the iterations that have a folder, in order; a folder of another name is none."""
        names = (entry.name.removeprefix("iter-") for entry in self.path.glob("iter-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def iteration(self, number: int) -> IterationFolder:
        """The folder of one iteration; `BASE` for the initial policy."""
        return IterationFolder(self.path / ("base" if number == BASE else f"iter-{number}"))

    @contextmanager
    def opened(self, config: RunConfig, data: Data) -> Iterator[None]:
        """Hold the run folder for a run of this configuration on these data.

        Raises:
            InputError: another process runs in the folder; or the folder belongs to another
                configuration, or to other data, and what changed.
        """
        inputs = data.hashes().as_named()
        self._refuse_changes(
            config, inputs
        )  # before the folder is touched, and again under the lock
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(blocking=False):
                self._refuse_changes(config, inputs)
                write_json(self.path / "inputs.json", inputs)
                write_run_config(self.path, config)
                yield
        except Timeout:
            raise InputError(f"{self.path}: another process is running in this folder") from None

    def _refuse_changes(self, config: RunConfig, inputs: dict[str, str]) -> None:
        old_config = run_values(self.path)
        if old_config is None:
            return
        old_config = _completed(old_config)
        new = resolved(config)
        if new["iterations"] > old_config["iterations"]:
            old_config["iterations"] = new["iterations"]  # going on is not a change
        changes = config_differences(old_config, new)
        changes += config_differences(_read(self.path / "inputs.json") or {}, inputs)
        if changes:
            listed = "\n".join(f"  {change}" for change in changes)
            raise InputError(
                f"{self.path} holds a run with another configuration; what changed:\n{listed}\n"
                "Give run_dir a new folder, or restore the old values to continue"
            )


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """With the defaults of settings that there were not when the run was begun."""
    try:
        return resolved(RunConfig.model_validate(config))
    except ValidationError:  # It has settings that there are no longer.
        return config


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value
