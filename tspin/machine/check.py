"""One line of what `tspin doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status", "gib"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what it means."""

    name: str
    status: Status
    """fail: the work cannot be done here; warn: part of it, or perhaps not."""
    detail: str
    wanted: str = ""
    """What there should be, where the detail does not say it."""
    mend: str = ""
    """How to get there: a command, or what to do."""

    def lines(self) -> list[str]:
        """The detail, then what is wanted and how to mend it."""
        more = {"wanted": self.wanted, "to mend": self.mend}
        return [self.detail, *(f"{label}: {text}" for label, text in more.items() if text)]


def gib(size: float) -> str:
    """Bytes as text in GiB, in MiB below one GiB."""
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.1f} GiB"
