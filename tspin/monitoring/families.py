"""The metrics that a command exposes: name, unit, and where in a step's note the value stands."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CHAMPION",
    "CHAMPION_TIME",
    "FAMILIES",
    "INFO",
    "ITERATIONS",
    "PHASES",
    "RECORDS",
    "UP",
    "Family",
]


@dataclass(frozen=True)
class Family:
    """One metric; each value has the labels run, iteration and step."""

    name: str
    unit: str
    text: str
    """What it is."""
    source: str = ""
    """Its name in a note; one of the training log has the name that it has there."""


INFO = Family("tspin_step_active", "1", "The step that runs now; absent between steps.")
ITERATIONS = Family("tspin_iterations", "1", "Iterations that the run is to have.")
"""Of `tspin run` alone, with the label run alone."""
PHASES = Family(
    "tspin_step_seconds_total",
    "s",
    "What the time of the step went to by phase, over all its starts; every five seconds.",
    "phases",
)
"""A counter with the label phase besides; its values go on after a kill."""

UP = Family("tspin_registry_up", "0 or 1", "Whether the registry could be read.")
RECORDS = Family(
    "tspin_registry_records_total",
    "1",
    "Champions so far, by kind (promote or rollback) and ci (whether they came through CI).",
)
CHAMPION = Family("tspin_registry_champion_number", "1", "Number of today's champion.")
CHAMPION_TIME = Family(
    "tspin_registry_champion_timestamp_seconds", "s", "When it became that, since 1970."
)

FAMILIES = (
    Family("tspin_requests_done", "1", "Requests that are answered.", "done"),
    Family("tspin_requests_open", "1", "Requests that are not answered yet.", "open"),
    Family(
        "tspin_tokens_per_second",
        "tokens/s",
        "In training through the model, padding not counted, since the last logged step; in "
        "generation those sampled, since the step began.",
        "tokens_per_second",
    ),
    Family("tspin_seconds_left", "s", "Until the step ends, at its pace so far.", "seconds_left"),
    Family("tspin_train_step", "1", "The optimiser step that was logged last.", "step_number"),
    Family("tspin_train_steps", "1", "Optimiser steps that the training has.", "steps"),
    Family("tspin_train_loss", "nats", "As in train_log.jsonl.", "loss"),
    Family("tspin_train_learning_rate", "1", "As in train_log.jsonl.", "learning_rate"),
    Family("tspin_train_grad_norm", "1", "As in train_log.jsonl.", "grad_norm"),
    Family(
        "tspin_train_margin",
        "nats",
        "`rewards/margins` of train_log.jsonl: of annotated over synthetic responses.",
        "rewards/margins",
    ),
    Family(
        "tspin_train_historical_margin",
        "nats",
        "`rewards/historical_margins`: of synthetic responses over those of the initial policy.",
        "rewards/historical_margins",
    ),
    Family(
        "tspin_train_accuracy_ratio",
        "0 to 1",
        "`rewards/accuracies`: share of the triplets whose annotated response is preferred.",
        "rewards/accuracies",
    ),
    Family(
        "tspin_train_triplets_per_second",
        "triplets/s",
        "Since the last logged step.",
        "speed/triplets_per_second",
    ),
    Family(
        "tspin_train_padding_ratio",
        "0 to 1",
        "Share of the computed positions that hold no token.",
        "speed/padding",
    ),
    Family(
        "tspin_train_mfu_ratio",
        "0 to 1",
        "The model's operations over what the GPUs could do at multiplying matrices; on GPUs only.",
        "speed/mfu",
    ),
    Family(
        "tspin_checkpoint_age_seconds",
        "s",
        "Since the last checkpoint, before the first one since the training began: what a kill "
        "costs.",
        "checkpoint_time",
    ),
)
