"""What a part is told, and what it may leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from benchmarks.gpu.plan import Sizes
from tspin.files import atomic_file

__all__ = ["NotRunError", "Publish", "Request", "keep"]

Publish = Callable[[Mapping[str, Any]], None]
"""Keeps all that a part has found so far; what was kept before is replaced."""


class NotRunError(Exception):
    """This part cannot run here, and that is no failure; the message says why."""


@dataclass(frozen=True)
class Request:
    """The sizes of a run and where it works."""

    sizes: Sizes
    gpus: int
    folder: str
    """Scratch; the model is in `model` below it."""
    command: str
    """What the user typed."""

    @property
    def model(self) -> Path:
        """The folder of the model that most parts train."""
        return Path(self.folder) / "model"

    def as_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `as_json` wrote."""
        values = json.loads(text)
        sizes = values.pop("sizes")
        sizes["profiles"] = tuple(sizes["profiles"])
        return cls(sizes=Sizes(**sizes), **values)


def keep(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, in the order of the values: tables are made from it."""
    with atomic_file(path) as file:
        file.write(orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n")
