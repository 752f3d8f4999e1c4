"""What the last digits of an output depend on besides what it was made from. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tspin.files import write_json

__all__ = ["Arithmetic", "begun_path", "differences", "read_arithmetic", "write_arithmetic"]

_WORK = "work"


class Arithmetic(BaseModel):
    """How sums were added up. It makes no output stale: it only says where bytes may differ."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    threads: int
    """Of each process, within one operation."""
    device: str
    """`cpu` with its instructions, or the GPU's name."""
    torch: str
    blas: str
    processes: int | None = None
    """That shared a training; None where there is always one."""

    def difference(self, before: Arithmetic) -> str:
        """What is other than before, in words; empty where nothing is, or nothing is known."""
        here, there = self.model_dump(), before.model_dump()
        return ", ".join(
            f"{name} {value} instead of {there[name]}"
            for name, value in here.items()
            if value is not None and there[name] not in (None, value)
        )


def differences(here: Arithmetic, records: Mapping[str, Arithmetic | None]) -> str | None:
    """In what an arithmetic differs from earlier ones.

    Args:
        here: Of the work at hand.
        records: What was computed before, such as 'the policy', to its arithmetic; None is
            unknown and agrees with all.

    Returns:
        A sentence for the log and the manifest; None where all agree.
    """
    told = {what: here.difference(record) for what, record in records.items() if record}
    parts = (f"computed otherwise than {what} ({text})" for what, text in told.items() if text)
    return "; ".join(parts) or None


def write_arithmetic(path: Path, arithmetic: Arithmetic, work: str | None = None) -> None:
    """Write down what something was begun with.

    Args:
        path: A JSON file.
        arithmetic: Of the beginning.
        work: Names what was begun, where another work may come to the same place.
    """
    named: dict[str, Any] = {} if work is None else {_WORK: work}
    write_json(path, arithmetic.model_dump(mode="json") | named)


def begun_path(out: Path) -> Path:
    """Where it stands what the work on an output was begun with."""
    return out.with_name(f".{out.name}.begun.json")


def read_arithmetic(path: Path, work: str | None = None) -> Arithmetic | None:
    """What something was begun with; None where that is unknown, or other work was begun there."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        arithmetic = Arithmetic.model_validate(values)
    except (ValueError, ValidationError):
        return None
    return arithmetic if values.get(_WORK) == work else None
