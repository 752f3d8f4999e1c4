"""The pipelines: a whole run, a single iteration, evaluation only.

No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from tspin_pipelines.graph.chain import Chain
from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.graph.start import Start
from tspin_pipelines.plan import Plan

__all__ = ["GRAPHS"]

_BASE = -1
"""The iteration number of the initial policy."""


def run(plan: Plan) -> Any:
    """All iterations, unrolled: kfp has no loop that carries a policy on."""
    settings = plan.config_json()
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    chain = Chain(plan, generation, evaluations)

    @dsl.pipeline(
        name="tspin-run",
        description="Triplet self-play fine-tuning, all iterations.",
        pipeline_config=plan.lifetime(),
    )
    def graph(config: str = settings) -> None:
        start = Start(plan, generation, evaluations, config)
        inputs = start.shared()
        chain.play(inputs, start.policy, start.history(_BASE, inputs))

    return graph


def iteration(plan: Plan) -> Any:
    """One iteration from any policy."""
    settings = plan.config_json()
    begins = plan.iteration == 0 and plan.model is None
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    chain = Chain(plan, generation, evaluations, only="proto" if begins else "own")

    @dsl.pipeline(
        name="tspin-iteration",
        description="One iteration of self-play from any policy.",
        pipeline_config=plan.lifetime(),
    )
    def graph(config: str = settings, model: str = plan.model or "") -> None:
        start = Start(plan, generation, evaluations, config, model)
        inputs = start.shared()
        chain.play(inputs, start.policy, start.history(plan.iteration - 1, inputs))

    return graph


def evaluation(plan: Plan) -> Any:
    """Evaluation only: one policy on the held-out records."""
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    settings = plan.config_json()

    @dsl.pipeline(
        name="tspin-evaluate",
        description="One policy on the held-out records.",
        pipeline_config=plan.lifetime(),
    )
    def graph(config: str = settings, model: str = plan.model or "") -> None:
        start = Start(plan, generation, evaluations, config, model, trains=False)
        start.measured(start.records("heldout"), _BASE)

    return graph


GRAPHS: Mapping[str, Callable[[Plan], Any]] = {
    "run": run,
    "iteration": iteration,
    "evaluate": evaluation,
}
