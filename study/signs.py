"""What the guards look at, iteration by iteration, and whether the policy really got worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from study.measurements import finished_runs, validation_values
from study.protocol import Cell
from study.results import SignRow
from tspin.compare.folders import ComparisonFolder
from tspin.records.training_log import read_train_log
from tspin.runs.folder import BASE, RunFolder

if TYPE_CHECKING:
    from study.stages import Study

__all__ = ["SIGNS", "Alarm", "alarm", "collect_signs", "run_signs"]

SIGNS = {
    "annotated_logps_drop": (0.1, 0.2, 0.5, 1.0),
    "saturated_share": (0.5, 0.75, 0.9, 0.95),
    "length_drift": (1.25, 1.5, 2.0, 3.0),
    "sampled_drop": (0.02, 0.05, 0.1, 0.2),
}
"""Setting in `train.guards`, and thresholds to try."""
WORSE, LESS_LIKELY = 0.05, 0.1
"""Fall of greedy exactness, and of the held-out annotations' likelihood in nats a token, below an
earlier policy of the run, the initial one included: either counts as damage."""


@dataclass(frozen=True)
class Alarm:
    """What a threshold would have told."""

    damaged: int
    """Iterations that left the policy worse."""
    caught: int
    """Of these, how many were past the threshold."""
    sound: int
    false: int
    """Past the threshold, of the sound ones."""


def alarm(rows: Sequence[SignRow], sign: str, threshold: float) -> Alarm:
    """Count iterations by what they did and by what the guard would have said.

    Args:
        rows: Of `collect_signs`; those without the sign do not count.
        sign: In `SIGNS`.
        threshold: What is above it is past it.
    """
    past = [(row["worse"], row[sign] > threshold) for row in rows if row.get(sign) is not None]
    return Alarm(
        damaged=sum(worse for worse, _ in past),
        caught=sum(worse and over for worse, over in past),
        sound=sum(not worse for worse, _ in past),
        false=sum(over and not worse for worse, over in past),
    )


def collect_signs(study: Study, cell: Cell) -> Iterator[SignRow]:
    """One row an iteration of each run of all finished comparisons on a cell.

    Runs from a seed that is being added to one are none of it yet.
    """
    for result in sorted(study.folder(cell).rglob("compare.json")):
        part = result.parent.relative_to(study.folder(cell)).as_posix()
        runs = finished_runs(ComparisonFolder(result.parent))
        finished = {(arm.name, run["seed"]) for arm, run in runs}
        for row in run_signs(result.parent):
            if (row["arm"], row["seed"]) not in finished:
                continue
            yield {"skill": cell.skill, "base": cell.base, "part": part, **row}


def run_signs(comparison: Path) -> Iterator[SignRow]:
    """One row an iteration of each run of a comparison."""
    for path in sorted(comparison.glob("seed-*/*/config.json")):
        run = RunFolder(path.parent)
        if not run.iteration(BASE).metrics.is_file():
            continue
        initial = validation_values(run.iteration(BASE).metrics)
        greedy, sampled, nll = ([initial[name]] for name in ("greedy", "sampled", "nll_per_token"))
        number = 0
        while (iteration := run.iteration(number)).metrics.is_file():
            values = validation_values(iteration.metrics)
            yield {
                "arm": run.path.name,
                "seed": int(run.path.parent.name.removeprefix("seed-")),
                "iteration": number,
                "worse": max(greedy) - values["greedy"] > WORSE
                or values["nll_per_token"] - min(nll) > LESS_LIKELY,
                **_training_signs(read_train_log(iteration.path / "train_log.jsonl")),
                "sampled_drop": _lone_fall(greedy, sampled, values),
            }
            greedy.append(values["greedy"])
            sampled.append(values["sampled"])
            nll.append(values["nll_per_token"])
            number += 1


def _training_signs(log: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """At the end of an iteration's training, as `tspin.train.guards` measures them."""
    window = max(1, min(10, len(log) // 10))
    start, end = log[:window], log[-window:]
    signs: dict[str, float | None] = dict.fromkeys(SIGNS)
    signs["annotated_logps_drop"] = _per_token(start) - _per_token(end)
    if "rewards/saturated" in log[0]:
        signs["saturated_share"] = fmean(row["rewards/saturated"] for row in end)
        lengths = [
            fmean(row[f"lengths/{role}"] for row in log) for role in ("annotated", "synthetic")
        ]
        signs["length_drift"] = max(lengths) / max(min(lengths), 1.0)
    return signs


def _lone_fall(
    greedy: Sequence[float], sampled: Sequence[float], values: dict[str, float]
) -> float:
    """Fall of sampled exactness where greedy has not fallen half as far, as the guard has it."""
    at = max(range(len(sampled)), key=sampled.__getitem__)
    fall = sampled[at] - values["sampled"]
    return fall if greedy[at] - values["greedy"] < fall / 2 else 0.0


def _per_token(rows: Sequence[dict[str, Any]]) -> float:
    logps, tokens = (sum(row[f"{name}/annotated"] for row in rows) for name in ("logps", "lengths"))
    return float(logps / tokens)
