"""The process that evaluates one policy beside the loop: `python -m tspin.evaluations.worker`."""

from __future__ import annotations

from tspin.evaluations.step import PolicyEvaluation
from tspin.processes.companion import run_companion

__all__ = ["work"]


def work(evaluation: str) -> None:
    """Make an evaluation, given as JSON."""
    PolicyEvaluation.model_validate_json(evaluation).make()


if __name__ == "__main__":
    run_companion(work)
