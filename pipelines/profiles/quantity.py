"""Amounts as Kubernetes writes them: 500m cores, 64Gi bytes."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Quantity", "in_units"]

_UNITS = {"": Decimal(1), "m": Decimal("0.001")}
_UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", start=1)}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", start=1)}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)")


def in_units(quantity: str) -> Decimal:
    """A Kubernetes quantity (500m, 64Gi) in cores or bytes.

    Raises:
        ValueError: it is not one.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"not a Kubernetes quantity such as 500m, 4 or 64Gi: {quantity!r}")
    return Decimal(match[1]) * _UNITS[match[2]]


def _quantity(text: str) -> str:
    in_units(text)
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]
