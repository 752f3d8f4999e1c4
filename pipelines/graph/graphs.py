"""The pipelines: a whole run, a single iteration, evaluation only.

No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.finish import finish_node
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.graph.iteration import iteration_node
from tspin_pipelines.graph.start import Start
from tspin_pipelines.plan import Plan

__all__ = ["GRAPHS"]

_BASE = -1
"""The iteration number of the initial policy."""


def run(plan: Plan) -> Any:
    """All iterations, unrolled: kfp has no loop that carries a policy on."""
    settings = plan.config_json()
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    nodes = [
        iteration_node(plan, generation, evaluations, plays=number > 0)
        for number in range(plan.config.iterations)
    ]
    finish = finish_node(plan)

    @dsl.pipeline(name="tspin-run", description="Triplet self-play fine-tuning, all iterations.")
    def graph(config: str = settings) -> None:
        start = Start(plan, generation, evaluations, config)
        inputs = start.shared()
        _chain(plan, nodes, finish, inputs, start.policy, start.history(_BASE, inputs))

    return graph


def _chain(
    plan: Plan, nodes: list[Any], finish: Any, inputs: dict[str, Any], policy: Any, history: Any
) -> None:
    """Play the remaining iterations, or finish where the gate refuses or none is left."""
    number = plan.config.iterations - len(nodes)
    played = nodes[0](iteration=number, policy=policy, history=history, **inputs)
    plan.node(played, f"iteration {number}")
    out = played.outputs
    end = {"config": inputs["config"], "history": out["history"], "best": out["best"]}
    rest = nodes[1:]
    if not rest:
        plan.node(finish(**end), "finish")
    elif plan.config.gate.margin is None:
        _chain(plan, rest, finish, inputs, out["policy"], out["history"])
    else:
        with dsl.If(out["Output"] == "continue", name=f"after iteration {number}"):
            _chain(plan, rest, finish, inputs, out["policy"], out["history"])
        with dsl.Else(name=f"stop after iteration {number}"):
            plan.node(finish(**end), "finish")


def iteration(plan: Plan) -> Any:
    """One iteration from any policy."""
    settings = plan.config_json()
    begins = plan.iteration == 0 and plan.model is None
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    node = iteration_node(plan, generation, evaluations, plays=not begins)
    finish = finish_node(plan)

    @dsl.pipeline(name="tspin-iteration", description="One iteration of self-play from any policy.")
    def graph(config: str = settings, model: str = plan.model or "") -> None:
        start = Start(plan, generation, evaluations, config, model)
        inputs = start.shared()
        history = start.history(plan.iteration - 1, inputs)
        played = node(iteration=plan.iteration, policy=start.policy, history=history, **inputs)
        plan.node(played, f"iteration {plan.iteration}")
        out = played.outputs
        plan.node(finish(config=config, history=out["history"], best=out["best"]), "finish")

    return graph


def evaluation(plan: Plan) -> Any:
    """Evaluation only: one policy on the held-out records."""
    generation, evaluations = GenerationTasks(plan), EvaluationTasks(plan)
    settings = plan.config_json()

    @dsl.pipeline(name="tspin-evaluate", description="One policy on the held-out records.")
    def graph(config: str = settings, model: str = plan.model or "") -> None:
        start = Start(plan, generation, evaluations, config, model, trains=False)
        start.measured(start.records("heldout"), _BASE)

    return graph


GRAPHS: Mapping[str, Callable[[Plan], Any]] = {
    "run": run,
    "iteration": iteration,
    "evaluate": evaluation,
}
