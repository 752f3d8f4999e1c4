"""A training that stays before its fifth step until it is killed, alone or in several processes."""

from __future__ import annotations

import os
import runpy
import threading
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import tspin.train.process as process
import tspin.train.step as step
from tests.integration.training_runs import TRAIN

__all__: list[str] = []


class Held(TrainerCallback):
    """Holds the training; what it has beside it, such as copies to a store, goes on."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step == 4:
            threading.Event().wait()


def main() -> None:
    """As `training_runs.TRAIN`, or as one of the processes that it starts."""
    callbacks, launch = process.tracker_callbacks, step.launch
    vars(process)["tracker_callbacks"] = lambda *given, **named: [
        *callbacks(*given, **named),
        Held(),
    ]
    if "RANK" in os.environ:
        runpy.run_module("tspin.train.worker", run_name="__main__", alter_sys=True)
        return
    vars(step)["launch"] = lambda processes, _, job: launch(
        processes, "tests.integration.held_training", job
    )
    exec(TRAIN, {})  # noqa: S102


if __name__ == "__main__":
    main()
