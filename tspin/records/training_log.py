"""train_log.jsonl: a row for each optimiser step, and where a training ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from tspin.errors import located
from tspin.records.estimate import Estimate

__all__ = ["GAPS", "SPEED", "TRAIN_LOG", "final_mean", "read_train_log", "step_rows"]

TRAIN_LOG = "train_log.jsonl"
"""Its name, beside the model."""

SPEED = "speed/"
"""What the logged names of speeds begin with; they differ from run to run, as nothing else does."""

_FIRST = ("step", "epoch", "loss", "learning_rate", "grad_norm")


GAPS = {
    "annotated_synthetic": ("annotated", "synthetic"),
    "synthetic_proto_synthetic": ("synthetic", "proto_synthetic"),
}
"""By name of a margin, the role whose likelihood it takes and the one it takes off."""


def final_mean(
    log: Sequence[Mapping[str, Any]], name: str, minus: str | None = None
) -> Estimate | None:
    """A logged value at the end of a training, without an interval.

    Args:
        log: Rows of train_log.jsonl.
        name: The value.
        minus: Another one, to take off it.

    Returns:
        The mean and how many steps it rests on; None where no step has the values.
    """
    rows = [row for row in log if row.get(name) is not None]
    rows = [row for row in rows if minus is None or row.get(minus) is not None]
    last = rows[-(len(rows) // 10 or 1) :]
    values = [row[name] - (row[minus] if minus else 0) for row in last]
    return Estimate(fmean(values), None, None, len(values)) if values else None


def step_rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The optimiser steps of a trainer's history, without its summaries and without speeds."""
    rows = [
        {name: value for name, value in entry.items() if not name.startswith(SPEED)}
        for entry in history
        if "loss" in entry
    ]
    return [{key: row[key] for key in (*_FIRST, *sorted(row.keys() - {*_FIRST}))} for row in rows]


def read_train_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a train log, the first step first.

    A row is whole once its newline is there. What follows the last newline is the row that a
    running training is writing, or that a killed one left, and is not a row yet.

    Raises:
        InputError: a line is not a JSON object; with file and line.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise located(path, number, f"not a JSON object: {error}") from None
        if not isinstance(row, dict):
            raise located(path, number, f"expected a JSON object, found {row!r:.80}")
        rows.append(row)
    return rows
