"""The best policy of a run by a named metric, and the gate that stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.files import write_json
from tspin.records.estimate import read_estimates
from tspin.runs.folder import BASE, RunFolder

__all__ = ["Best"]


@dataclass(frozen=True)
class Best:
    """The best policy so far by the gate's metric; without held-out data, the latest."""

    iteration: int
    value: float | None
    stopped: str | None = None
    """Why the run stops here, in a sentence; None while it may go on."""

    @classmethod
    def of(cls, config: RunConfig, folder: RunFolder, numbers: Sequence[int]) -> Best:
        """The best of several iterations, walked in order until one stops the run.

        Args:
            config: `gate` says by which metric, and when a run stops.
            folder: Holds the metrics of each.
            numbers: Of the iterations, `BASE` for the initial policy; the first is the one to
                beat.
        """
        best = cls.first(config, folder, numbers[0])
        for number in numbers[1:]:
            if best.stopped:
                break
            best = best.after(config, folder, number)
        return best

    @classmethod
    def first(cls, config: RunConfig, folder: RunFolder, iteration: int = BASE) -> Best:
        """The policy that a run begins with is the one to beat.

        Args:
            config: `gate.metric` says by what.
            folder: Holds its metrics.
            iteration: `BASE` for the initial policy.
        """
        return cls(iteration, _gate_value(config, folder, iteration))

    def after(self, config: RunConfig, folder: RunFolder, iteration: int) -> Best:
        """Compare one more iteration; decide whether the run goes on.

        Args:
            config: `gate` says by what, and when a run stops.
            folder: Holds the metrics of both.
            iteration: The one that follows.
        """
        value = _gate_value(config, folder, iteration)
        if value is None or self.value is None:
            return Best(iteration, value)
        gain = value - self.value if config.gate.direction == "max" else self.value - value
        if gain > 0:
            return Best(iteration, value)
        margin = config.gate.margin
        if margin is not None and -gain > margin:
            name = "the initial policy" if self.iteration == BASE else f"iteration {self.iteration}"
            reason = (
                f"iteration {iteration} has {config.gate.metric} {value:.4g}, worse than "
                f"{self.value:.4g} of {name} by more than gate.margin {margin:g}"
            )
            return Best(self.iteration, self.value, reason)
        return self

    def write(self, config: RunConfig, folder: RunFolder) -> None:
        """Mark the best model in best.json; the initial policy has no folder in the run."""
        model = None
        if self.iteration != BASE:
            model = folder.iteration(self.iteration).model.relative_to(folder.path).as_posix()
        best = {
            "iteration": self.iteration,
            "model": model,
            "metric": config.gate.metric,
            "value": self.value,
            "stopped": self.stopped,
        }
        write_json(folder.best, best)


def _gate_value(config: RunConfig, folder: RunFolder, iteration: int) -> float | None:
    if config.data.heldout is None:
        return None
    path = folder.iteration(iteration).metrics
    metrics = read_estimates(path)
    if config.gate.metric not in metrics:
        raise InputError(
            f"gate.metric is {config.gate.metric!r}, which {path} does not hold; it holds: "
            f"{', '.join(sorted(metrics))}"
        )
    return metrics[config.gate.metric].value
