"""Where a training ends: means over the last tenth of its logged steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tspin.records.estimate import Estimate

__all__ = ["GAPS", "closing"]

GAPS = {
    "annotated_synthetic": ("annotated", "synthetic"),
    "synthetic_proto_synthetic": ("synthetic", "proto_synthetic"),
}
"""By name of a margin, the role whose likelihood it takes and the one it takes off."""


def closing(
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
