"""The evaluation of one policy of a run: y0 of the held-out records, then the metrics."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tspin.config import RunConfig
from tspin.evaluate.step import evaluate, is_evaluated
from tspin.generate.step import generate
from tspin.runs.clock import Timed, untimed
from tspin.runs.folder import BASE, RunFolder

__all__ = ["PolicyEvaluation"]


class PolicyEvaluation(BaseModel):
    """What is evaluated, as JSON for another process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    """Its `run_dir` is a folder on this machine."""
    heldout: Path
    policy: str
    iteration: int
    """That the policy ended; `BASE` for the initial one."""

    def make(self, timed: Timed = untimed) -> None:
        """Evaluate the policy, or return at once where that is done.

        Args:
            timed: Called around each step with its name: 'heldout_proto', 'base', 'evaluate'.

        Raises:
            InputError: see `tspin.evaluate.step.evaluate`.
            TspinError: a step failed; run again to continue.
        """
        folder = self._folder
        if self._pairs:
            with timed("heldout_proto"):
                generate(
                    self.config,
                    model=self.config.model.path,
                    annotated=self.heldout,
                    out=folder.heldout_proto,
                    iteration=0,
                    samples=1,  # y0 is one response a prompt.
                    arithmetic=folder.begun(),
                )
        with timed("base" if self.iteration == BASE else "evaluate"):
            evaluate(
                self.config,
                model=self.policy,
                annotated=self.heldout,
                out=self._metrics,
                proto=self._proto,
                iteration=self.iteration,
                arithmetic=folder.begun(),
            )

    @property
    def made(self) -> bool:
        """Whether the evaluation is in place, made from what it would be made from now."""
        if self._pairs and not self._folder.heldout_proto.is_file():
            return False
        return is_evaluated(
            self.config,
            model=self.policy,
            annotated=self.heldout,
            out=self._metrics,
            proto=self._proto,
            iteration=self.iteration,
        )

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(Path(self.config.run_dir))

    @property
    def _metrics(self) -> Path:
        return self._folder.iteration(self.iteration).metrics

    @property
    def _pairs(self) -> bool:
        return self.config.train.method != "sft"

    @property
    def _proto(self) -> Path | None:
        """What a policy is compared with; the initial one would be compared with itself."""
        return self._folder.heldout_proto if self._pairs and self.iteration != BASE else None
