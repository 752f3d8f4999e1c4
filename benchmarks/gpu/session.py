"""One run of the GPU benchmark: its parts one after another, each within its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import Part
from benchmarks.gpu.request import keep

__all__ = ["Session"]

_WORTH_STARTING = 0.5
"""A part is not begun with less than this share of its time left: it would only be stopped."""
_LINES = 60
"""Of what the process of a failed part wrote last."""


@dataclass
class Session:
    """Runs parts and keeps the JSON file up to date after each of them."""

    command: Callable[[Part, Path], Sequence[str]]
    """What measures a part and leaves its JSON in that file."""
    folder: Path
    """For the parts' files; the output of part NAME is in NAME.log."""
    json: Path
    seconds: float
    """For all parts together."""
    gpus: int
    about: dict[str, Any] = field(default_factory=dict)
    """What else stands in the JSON file."""
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.parts: dict[str, dict[str, Any]] = {}

    @property
    def failed(self) -> list[str]:
        """Names of the parts that failed."""
        return [name for name, part in self.parts.items() if part["status"] == "failed"]

    @property
    def outcome(self) -> dict[str, Any]:
        """All that stands in the JSON file."""
        return {**self.about, "parts": self.parts}

    def run(self, parts: Sequence[Part]) -> None:
        """Measure in this order, each with what is left of the time.

        Args:
            parts: The first one is what all others need.
        """
        end = time.monotonic() + self.seconds
        for part in parts:
            left = end - time.monotonic()
            self.parts[part.name] = outcome = {"budget_seconds": part.seconds} | (
                self._without(part, parts[0], left) or self._measured(part, min(left, part.seconds))
            )
            why = outcome.get("error") or outcome.get("reason") or ""
            took = f"{outcome['seconds']:.0f} s" if "seconds" in outcome else ""
            self.say("  ".join(word for word in (part.name, outcome["status"], took, why) if word))
            self.about["seconds"] = round(self.seconds - (end - time.monotonic()), 1)
            keep(self.json, self.outcome)

    def _without(self, part: Part, first: Part, left: float) -> dict[str, Any] | None:
        """Why a part is not begun at all, or None."""
        if part.gpus > self.gpus:
            return {"status": "not run", "reason": f"needs --gpus {part.gpus} or more"}
        if first.name in self.failed:
            return {"status": "not run", "reason": f"the part '{first.name}' failed"}
        if left < _WORTH_STARTING * part.seconds:
            return {
                "status": "not reached",
                "reason": f"{max(left, 0):.0f} s were left of {self.seconds:.0f} s",
            }
        return None

    def _measured(self, part: Part, seconds: float) -> dict[str, Any]:
        out, log = (self.folder / f"{part.name}.{kind}" for kind in ("json", "log"))
        began = time.monotonic()
        code = _exit_code(self.command(part, out), log, seconds)
        left = json.loads(out.read_bytes()) if out.is_file() else {}
        if code is None or code:
            left["log"] = log.read_text(errors="replace").splitlines()[-_LINES:]
        measured = {"seconds": round(time.monotonic() - began, 1)} | left
        if code is None:
            return {
                "status": "failed",
                **measured,
                "error": f"stopped after {seconds:.0f} s, the time it had",
            }
        if code or "error" in left:
            return {"status": "failed", "error": f"ended with exit code {code}"} | measured
        return {"status": "not run" if "reason" in left else "done", **measured}


def _exit_code(command: Sequence[str], log: Path, seconds: float) -> int | None:
    """Of a process with a group of its own; None where its time was over and it was killed."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
