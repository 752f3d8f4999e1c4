"""A short run of a tiny model, played in this process, and what its training stops at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import tspin.train.process
from tspin.config import RunConfig
from tspin.records.records import AnnotatedRecord, write_records

__all__ = ["at_steps", "make_config"]


def make_config(folder: Path, model: Path, *trackers: str, **sections: Any) -> RunConfig:
    """Two iterations of three steps each; `trackers` are those of `system.report_to`."""
    folder.mkdir(exist_ok=True)
    for name, count in {"annotated": 12, "heldout": 4}.items():
        records = (
            AnnotatedRecord.model_validate(
                {"id": f"{name}-{i}", "prompt": f"say {i}", "response": f"{name} {i}"}
            )
            for i in range(count)
        )
        write_records(folder / f"{name}.jsonl", records)
    values = {
        "run_dir": str(folder / "run"),
        "iterations": 2,
        "model": {"path": str(model)},
        "data": {
            "annotated": str(folder / "annotated.jsonl"),
            "heldout": str(folder / "heldout.jsonl"),
        },
        "prompt": {"template": "instruction", "max_length": 128},
        "generate": {"max_new_tokens": 8},
        "train": {
            "epochs": 1,
            "learning_rate": 1e-3,
            "global_batch_size": 4,
            **sections.pop("train", {}),
        },
        "evaluate": {"sampled": False},
        "system": {"device": "cpu", "num_processes": 1, "report_to": list(trackers)},
        **sections,
    }
    return RunConfig.model_validate(values)


def at_steps(monkeypatch: pytest.MonkeyPatch, **actions: Callable[[], None]) -> None:
    """Call something when a training has logged a step: `step3=...`; the training waits for it."""

    class Stops(TrainerCallback):
        def on_log(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            action = actions.pop(f"step{state.global_step}", None)
            if action is not None:
                action()

    real = tspin.train.process.tracker_callbacks
    monkeypatch.setattr(
        tspin.train.process,
        "tracker_callbacks",
        lambda *given, **named: [*real(*given, **named), Stops()],
    )
