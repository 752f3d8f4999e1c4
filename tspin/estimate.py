"""A measured value with its interval, as metrics.json holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Estimate"]


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
