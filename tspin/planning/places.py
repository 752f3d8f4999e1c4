"""Where the stages of a run compute: which GPUs, how many, at what price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Place", "Places"]


@dataclass(frozen=True)
class Place:
    """Machines that one stage holds from its beginning to its end."""

    device: str | None
    """A GPU as its pool, torch or a user names it; None is a CPU."""
    gpus: int = 1
    """Of all nodes together; on a CPU 1, which is the machine."""
    price: float | None = None
    """Of an hour of one GPU, in whatever currency the profile's author counts."""


Places = Mapping[str, Place]
"""By stage of a pipeline: `generate`, `train` and `evaluate`."""
