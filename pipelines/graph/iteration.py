"""One iteration as a node: responses, triplets, training, evaluation, gate.

No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from typing import Any, NamedTuple

from kfp import dsl

from tspin_components.build_triplets import build_triplets
from tspin_components.gate import gate
from tspin_components.train import train
from tspin_components.train_multinode import train_multinode
from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.graph.signature import sub_pipeline
from tspin_pipelines.plan import Plan

__all__ = ["iteration_node"]


class _Played(NamedTuple):
    """`Output` is what kfp.local, too, can branch on: `continue` or `stop`."""

    policy: dsl.Model
    history: dsl.Dataset
    Output: str
    best: str


def iteration_node(
    plan: Plan, generation: GenerationTasks, evaluations: EvaluationTasks, *, plays: bool
) -> Any:
    """The sub-pipeline of an iteration.

    Args:
        plan: Decides which steps it has.
        generation: Makes the tasks of its first step.
        evaluations: Makes those of its last but one.
        plays: Whether the policy generates y'; at iteration 0 it is y0, which is there already.

    Returns:
        What makes a task of it. Inputs by name: config, settings, iteration, policy, annotated,
        history; proto, where the method trains on pairs; heldout, where policies are measured;
        heldout_proto, where both. Outputs: policy, history, Output, best.
    """
    inputs: dict[str, Any] = {
        "config": str,
        "settings": str,
        "iteration": int,
        "policy": dsl.Input[dsl.Model],
        "annotated": dsl.Input[dsl.Dataset],
        "history": dsl.Input[dsl.Dataset],
    }
    optional = {
        "proto": plan.pairs,
        "heldout": plan.measures,
        "heldout_proto": plan.pairs and plan.measures,
    }
    inputs |= {name: dsl.Input[dsl.Dataset] for name, needed in optional.items() if needed}
    return sub_pipeline(
        "iteration" if plays or not plan.pairs else "first-iteration",
        "Synthetic responses, triplets, the next policy, its evaluation, and the gate.",
        inputs,
        _Played,
        lambda channels: _play(plan, generation if plays else None, evaluations, channels),
    )


def _play(
    plan: Plan,
    generation: GenerationTasks | None,
    evaluations: EvaluationTasks,
    channels: dict[str, Any],
) -> _Played:
    settings, iteration, policy = channels["settings"], channels["iteration"], channels["policy"]
    added: dict[str, Any] = {}
    examples = channels["annotated"]
    if plan.pairs:
        examples = added["triplets"] = _triplets(plan, generation, channels)
    trained = _training(
        plan, settings=settings, iteration=iteration, policy=policy, examples=examples
    )
    added["training"] = trained.outputs["training"]
    if plan.measures:
        proto = {"proto": channels["heldout_proto"]} if plan.pairs else {}
        added["evaluation"] = evaluations.evaluation(
            "evaluate",
            settings=settings,
            iteration=iteration,
            policy=trained.outputs["trained"],
            heldout=channels["heldout"],
            **proto,
        )
    decided = gate(
        config=channels["config"],
        iteration=iteration,
        model=trained.outputs["Output"],
        history=channels["history"],
        **added,
    )
    plan.placed(decided, "light", "gate")
    return _Played(
        policy=trained.outputs["trained"],
        history=decided.outputs["grown"],
        Output=decided.outputs["Output"],
        best=decided.outputs["best"],
    )


def _training(plan: Plan, **inputs: Any) -> Any:
    if plan.profile.stages.train.nodes == 1:
        return plan.placed(train(**inputs), "train", "train")
    nodes = plan.profile.training_nodes(plan.config).model_dump_json()
    task = plan.placed(train_multinode(nodes=nodes, **inputs), "transfer", "train on several nodes")
    return plan.as_long_as(task, "train")


def _triplets(plan: Plan, generation: GenerationTasks | None, channels: dict[str, Any]) -> Any:
    synthetic = channels["proto"]
    if generation is not None:
        synthetic = generation.responses(
            "generate",
            settings=channels["settings"],
            iteration=channels["iteration"],
            policy=channels["policy"],
            annotated=channels["annotated"],
        )
    joined = build_triplets(
        settings=channels["settings"],
        annotated=channels["annotated"],
        synthetic=synthetic,
        proto=channels["proto"],
    )
    return plan.placed(joined, "light", "build triplets").outputs["triplets"]
