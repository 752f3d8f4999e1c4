"""What metrics.json holds: measured values with their intervals. Its one reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from tspin.errors import InputError

__all__ = ["Estimate", "Likelihood", "estimates_of", "read_estimates", "read_metrics"]


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


@dataclass(frozen=True)
class Likelihood:
    """What a policy makes of one response to one prompt."""

    logp: float
    """Sum over the response's tokens, its end token included, in nats."""
    tokens: int


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a metrics.json.

    Returns:
        `iteration`, `model` (its identity), `records` (their number), `metrics` (by name `value`,
        `low`, `high` and `n`), and where tasks were asked `lm_eval`.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the metrics of an evaluation") from None
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("metrics"), dict):
        raise InputError(f"{path}: not the metrics of an evaluation: it has no object 'metrics'")
    try:
        estimates_of(content)
    except TypeError as error:
        raise InputError(f"{path}: not the metrics of an evaluation: {error}") from None
    return content


def estimates_of(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """The estimates in the content of a metrics.json, by name."""
    return {name: Estimate(**values) for name, values in content["metrics"].items()}


def read_estimates(path: Path) -> dict[str, Estimate]:
    """The estimates in a metrics.json, by name.

    Raises:
        InputError: the file is missing or damaged.
    """
    return estimates_of(read_metrics(path))
