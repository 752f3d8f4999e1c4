"""What a check found, before it has a name."""

from __future__ import annotations

from typing import NamedTuple

from tspin.machine.check import Status

__all__ = ["Finding"]


class Finding(NamedTuple):
    """The result of looking at one thing of a cluster."""

    status: Status
    detail: str
    """What was found."""
    wanted: str = ""
    mend: str = ""
    """A command, or what to do."""
