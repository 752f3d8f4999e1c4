"""Component: whether the run goes on, and which of its models is the best."""

from typing import NamedTuple, Optional

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["gate"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    config: str,
    iteration: int,
    model: str,
    grown: dsl.Output[dsl.Dataset],
    history: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045  (kfp reads no other form)
    evaluation: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    triplets: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    training: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
) -> NamedTuple("Decision", [("Output", str), ("best", str)]):  # type: ignore[valid-type]
    """Add an iteration to the run's history and decide by `gate` of the configuration.

    Args:
        config: The run configuration, JSON.
        iteration: That is added; -1 for the initial policy.
        model: URI of the policy that it ended with.
        grown: The history with this iteration: a run folder without weights.
        history: Before this iteration.
        evaluation: Of this iteration.
        triplets: Of this iteration.
        training: Of this iteration.

    Returns:
        Output: `continue` or `stop`. The name is the one that every orchestrator can branch on.
        best: URI of the best policy so far.
    """
    from collections import namedtuple
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.runs.gate import Step
    from tspin.runs.gate import gate as step
    from tspin_components.artifacts import describe, paths_of, records_in

    folders = paths_of(history=history, evaluation=evaluation, training=training)
    added = Step(
        iteration=int(iteration),
        model=model,
        evaluation=folders["evaluation"],
        triplets=None if triplets is None else records_in(triplets.path),
        training=folders["training"],
    )
    decided = step(
        RunConfig.model_validate_json(config),
        history=folders["history"],
        step=added,
        out=Path(grown.path),
    )
    grown.metadata.update({**describe(Path(grown.path)), **decided.as_metadata()})
    Decision = namedtuple("Decision", ["Output", "best"])
    return Decision("stop" if decided.best.stopped else "continue", decided.model)
