"""The gate step: whether a run of separate steps goes on, which model is its best, its history."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.errors import GateRefusedError, InputError
from tspin.files import atomic_folder, write_json
from tspin.outputs import check_output, history_folder
from tspin.records.seconds import carry_seconds
from tspin.runs.best import Best
from tspin.runs.config_file import write_run_config
from tspin.runs.folder import BASE, IterationFolder, RunFolder
from tspin.runs.samples import write_shown

__all__ = ["Decision", "Step", "best_metrics", "gate"]

_MODELS = "models.json"


@dataclass(frozen=True)
class Step:
    """What one iteration made, as far as the history needs it."""

    iteration: int
    """`BASE` for the initial policy."""
    model: str
    """URI of the policy that the iteration ended with."""
    evaluation: Path | None = None
    """Folder of metrics.json with the answers beside it; None without held-out records."""
    triplets: Path | None = None
    """None for the initial policy and for supervised fine-tuning."""
    training: Path | None = None
    """Folder of train_log.jsonl and the model's manifest; None for the initial policy."""


@dataclass(frozen=True)
class Decision:
    """Where a run stands after a step."""

    iteration: int
    """That was added; -1 for the initial policy."""
    best: Best
    model: str
    """URI of the best policy."""

    def as_metadata(self) -> dict[str, Any]:
        """For the artifact that the history is."""
        metadata: dict[str, Any] = {"iteration": self.iteration, "best_model": self.model}
        metadata["best_iteration"] = self.best.iteration
        metadata |= {"value": self.best.value, "stopped": self.best.stopped}
        return {name: value for name, value in metadata.items() if value is not None}


def gate(config: RunConfig, *, history: Path | None, step: Step, out: Path) -> Decision:
    """Add an iteration to the history of a run and decide whether the run goes on.

    The history is a run folder without weights: what the report needs, and what the best model
    is chosen by. It grows by one folder an iteration.

    Args:
        config: `gate` says by what; all of it goes into the history.
        history: Of the step before; None where the run begins.
        step: What is added.
        out: The folder of the new history; appears whole or not at all.

    Returns:
        The best iteration so far and its policy; `best.stopped` says why the run must stop.

    Raises:
        InputError: metrics lack `gate.metric`, the history is that of another iteration, or its
            place is taken.
    """
    check_output(out, history_folder, folder=True, inputs=[history, step.evaluation, step.training])
    with atomic_folder(out) as temporary:
        if history is not None:
            shutil.copytree(history, temporary, dirs_exist_ok=True)
        folder = RunFolder(temporary)
        write_run_config(temporary, config)
        _add(folder.iteration(step.iteration), step)
        best = _best(config, folder, step.iteration)
        best.write(config, folder)
        models = {**_models(temporary), str(step.iteration): step.model}
        write_json(temporary / _MODELS, models)
    return Decision(step.iteration, best, models[str(best.iteration)])


def best_metrics(history: Path) -> Path:
    """metrics.json of the best iteration of a history.

    Raises:
        GateRefusedError: no iteration beat the policy that the run began with.
    """
    number: int = json.loads(RunFolder(history).best.read_bytes())["iteration"]
    best = RunFolder(history).iteration(number)
    if not best.train_log.is_file():
        raise GateRefusedError("no iteration beat the policy that the run began with")
    return best.metrics


def _models(history: Path) -> dict[str, str]:
    path = history / _MODELS
    models: dict[str, str] = json.loads(path.read_bytes()) if path.is_file() else {}
    return models


def _add(outputs: IterationFolder, step: Step) -> None:
    outputs.path.mkdir(exist_ok=True)
    if step.evaluation is not None:
        metrics = IterationFolder(step.evaluation).metrics
        if not metrics.is_file():
            raise InputError(f"{step.evaluation}: expected an evaluation with {metrics.name}")
        shutil.copytree(step.evaluation, outputs.path, dirs_exist_ok=True)
    if step.training is not None:
        shutil.copytree(step.training, outputs.path, dirs_exist_ok=True)
    if step.triplets is not None:
        write_shown(step.triplets, outputs.triplets)
        carry_seconds([step.triplets], outputs.triplets)


def _best(config: RunConfig, folder: RunFolder, last: int) -> Best:
    """The same walk that `tspin.selfplay.run` takes, over what the history holds."""
    held = [n for n in range(BASE, last + 1) if folder.iteration(n).path.is_dir()]
    if held != list(range(held[0], last + 1)):
        missing = sorted(set(range(held[0], last + 1)) - set(held))
        raise InputError(f"history: holds iterations {held}, but lacks {missing}")
    return Best.of(config, folder, held)
