"""Where the wall time of a step went, in a file of its own beside the output.

No manifest and no hash knows of it: equal work gives equal outputs, and never equal times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tspin.files import write_json

__all__ = [
    "SECONDS",
    "WORK",
    "Phase",
    "StepName",
    "StepSeconds",
    "carry_seconds",
    "read_seconds",
    "seconds_path",
]

StepName = Literal["generate", "train", "evaluate"]
Phase = Literal[
    "imports",
    "waiting",
    "checks",
    "loading",
    "tokenising",
    "generating",
    "training",
    "evaluating",
    "checkpointing",
    "saving",
]

SECONDS = ".seconds.json"
"""How the names of these files end."""

WORK: Mapping[StepName, Phase] = {
    "generate": "generating",
    "train": "training",
    "evaluate": "evaluating",
}
"""The phase that a step is there for."""
_FIRST: Mapping[StepName, str] = {
    "generate": "prompt",
    "train": "optimiser step",
    "evaluate": "measurement",
}


class StepSeconds(BaseModel):
    """What the time of one step went to, in seconds, over all its starts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: StepName
    work: str
    """Key of the manifest of what was made."""
    before: dict[Phase, float]
    """Until the first prompt, optimiser step or measurement, of each start."""
    after: dict[Phase, float]
    starts: int = 1
    finished: bool = False

    @property
    def phases(self) -> dict[Phase, float]:
        """All seconds by phase."""
        return _sums(self.before, self.after)

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.before.values()) + sum(self.after.values())

    def with_earlier(self, earlier: StepSeconds) -> StepSeconds:
        """Together with the starts before this one."""
        return self.model_copy(
            update={
                "before": _sums(earlier.before, self.before),
                "after": _sums(earlier.after, self.after),
                "starts": earlier.starts + self.starts,
            }
        )

    def __str__(self) -> str:
        """One line for the log."""
        before = sum(self.before.values())
        again = f" in {self.starts} starts" if self.starts > 1 else ""
        return (
            f"{self.step}: {before:.1f} s before the first {_FIRST[self.step]} "
            f"({_listed(self.before)}), then {_listed(self.after)}; "
            f"{self.total:.1f} s in all{again}"
        )


def _sums(*parts: Mapping[Phase, float]) -> dict[Phase, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _listed(seconds: Mapping[Phase, float]) -> str:
    longest = sorted(seconds.items(), key=lambda item: -item[1])
    shown = [f"{name} {spent:.1f}" for name, spent in longest if spent >= 0.05]
    return ", ".join(shown) or "nothing"


def seconds_path(out: Path) -> Path:
    """Where it stands what the time of an output went to."""
    return out.with_name(f".{out.name}{SECONDS}")


def read_seconds(out: Path) -> StepSeconds | None:
    """What the time of an output went to; None where nothing, or nothing readable, says so."""
    try:
        return StepSeconds.model_validate_json(seconds_path(out).read_bytes())
    except (OSError, ValidationError):
        return None


def carry_seconds(sources: Sequence[Path], out: Path) -> None:
    """Take along what the time of outputs went to, where theirs becomes that of another place.

    Of several that were made at the same time, as shards are, the slowest tells how long it took.
    """
    known = [seconds for source in sources if (seconds := read_seconds(source)) is not None]
    if known:
        slowest = max(known, key=lambda seconds: seconds.total)
        write_json(seconds_path(out), slowest.model_dump(mode="json"))
