"""A measured value with its interval, as metrics.json holds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Estimate", "read_estimates"]


@dataclass(frozen=True)
class Estimate:
    """A value and how far it may be off; the unit is that of what was measured."""

    value: float
    low: float | None
    """None where a single observation says nothing about the spread."""
    high: float | None
    n: int
    """Observations it rests on."""

    def as_json(self) -> dict[str, float | int | None]:
        """The estimate as it stands in metrics.json."""
        return asdict(self)


def read_estimates(metrics: Path) -> dict[str, Estimate]:
    """What a metrics.json of this project holds, by name."""
    found: dict[str, dict[str, float | int | None]] = json.loads(metrics.read_bytes())["metrics"]
    return {name: Estimate(**values) for name, values in found.items()}  # type: ignore[arg-type]
