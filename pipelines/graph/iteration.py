"""One iteration as two nodes: it plays, and beside that the policy it ends with is judged.

No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from typing import Any, Literal, NamedTuple

from kfp import dsl

from tspin_components.build_triplets import build_triplets
from tspin_components.collect_responses import collect_responses
from tspin_components.gate import gate
from tspin_components.train import train
from tspin_components.train_multinode import train_multinode
from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.graph.signature import sub_pipeline
from tspin_pipelines.plan import Plan

__all__ = ["evaluation_node", "iteration_node"]

Responses = Literal["proto", "own", "given"]
"""Where y' comes from: it is y0 at iteration 0, is generated in the node, or was before it."""


class _Trained(NamedTuple):
    policy: dsl.Model
    uri: str
    training: dsl.Dataset


class _Played(NamedTuple):
    policy: dsl.Model
    uri: str
    training: dsl.Dataset
    triplets: dsl.Dataset


class _Collected(NamedTuple):
    policy: dsl.Model
    uri: str
    training: dsl.Dataset
    triplets: dsl.Dataset
    collected: dsl.Dataset


class _Judged(NamedTuple):
    """`Output` is what kfp.local, too, can branch on: `continue` or `stop`."""

    history: dsl.Dataset
    Output: str
    best: str


def iteration_node(
    plan: Plan,
    generation: GenerationTasks,
    responses: Responses,
    *,
    earlier: bool = False,
    collects: bool = False,
) -> Any:
    """The sub-pipeline that plays an iteration, up to its policy; it knows of no evaluation.

    Args:
        plan: Decides which steps it has.
        generation: Makes the tasks of its first step.
        responses: Where y' comes from; no matter to a method that trains on no pairs.
        earlier: Whether its triplets have responses of policies between y0's and that of y'.
        collects: Whether later triplets will have its own.

    Returns:
        What makes a task of it. Inputs by name: settings, iteration, policy, annotated; proto,
        where the method trains on pairs; synthetic, where y' is given; earlier, where there are
        any. Outputs: policy, uri, training; triplets, where the method trains on pairs;
        collected, earlier with this iteration's, where it collects.
    """
    inputs: dict[str, Any] = {
        "settings": str,
        "iteration": int,
        "policy": dsl.Input[dsl.Model],
        "annotated": dsl.Input[dsl.Dataset],
    }
    optional = {
        "proto": plan.pairs,
        "synthetic": plan.pairs and responses == "given",
        "earlier": earlier,
    }
    inputs |= {name: dsl.Input[dsl.Dataset] for name, needed in optional.items() if needed}
    return sub_pipeline(
        "first-iteration" if plan.pairs and responses == "proto" else "iteration",
        "Synthetic responses, triplets, and the next policy.",
        inputs,
        _Collected if collects else _Played if plan.pairs else _Trained,
        lambda channels: _play(plan, generation, responses, channels, collects=collects),
    )


def _play(
    plan: Plan,
    generation: GenerationTasks,
    responses: Responses,
    channels: dict[str, Any],
    *,
    collects: bool,
) -> _Trained | _Played | _Collected:
    shared = {name: channels[name] for name in ("settings", "iteration", "policy")}
    if not plan.pairs:
        trained = _training(plan, **shared, examples=channels["annotated"]).outputs
        return _Trained(trained["trained"], trained["Output"], trained["training"])
    annotated = channels["annotated"]
    if responses == "own":
        synthetic = generation.responses("generate", **shared, annotated=annotated)
    else:
        synthetic = channels["synthetic" if responses == "given" else "proto"]
    earlier = {name: channels[name] for name in ("earlier",) if name in channels}
    joined = build_triplets(
        settings=channels["settings"],
        annotated=annotated,
        synthetic=synthetic,
        proto=channels["proto"],
        **earlier,
    )
    triplets = plan.placed(joined, "light", "build triplets").outputs["triplets"]
    trained = _training(plan, **shared, examples=triplets).outputs
    played = _Played(trained["trained"], trained["Output"], trained["training"], triplets)
    if not collects:
        return played
    collected = collect_responses(synthetic=synthetic, **earlier)
    plan.placed(collected, "light", "collect responses")
    return _Collected(*played, collected.outputs["collected"])


def evaluation_node(plan: Plan, evaluations: EvaluationTasks) -> Any:
    """The sub-pipeline that measures the policy of an iteration and asks the gate.

    Args:
        plan: Decides which steps it has.
        evaluations: Makes the tasks that measure the policy.

    Returns:
        What makes a task of it. Inputs by name: config, settings, iteration, policy, history, and
        uri, training, triplets as the iteration has them; heldout, where policies are measured;
        heldout_proto, where they are compared with y0 as well. Outputs: history, Output, best.
    """
    inputs: dict[str, Any] = {
        "config": str,
        "settings": str,
        "iteration": int,
        "policy": dsl.Input[dsl.Model],
        "uri": str,
        "history": dsl.Input[dsl.Dataset],
        "training": dsl.Input[dsl.Dataset],
    }
    optional = {
        "triplets": plan.pairs,
        "heldout": plan.measures,
        "heldout_proto": plan.pairs and plan.measures,
    }
    inputs |= {name: dsl.Input[dsl.Dataset] for name, needed in optional.items() if needed}
    return sub_pipeline(
        "evaluation",
        "The policy on the held-out records, and the gate.",
        inputs,
        _Judged,
        lambda channels: _judge(plan, evaluations, channels),
    )


def _judge(plan: Plan, evaluations: EvaluationTasks, channels: dict[str, Any]) -> _Judged:
    added: dict[str, Any] = {"training": channels["training"]}
    if plan.pairs:
        added["triplets"] = channels["triplets"]
    if plan.measures:
        proto = {"proto": channels["heldout_proto"]} if plan.pairs else {}
        added["evaluation"] = evaluations.evaluation(
            "evaluate",
            settings=channels["settings"],
            iteration=channels["iteration"],
            policy=channels["policy"],
            heldout=channels["heldout"],
            **proto,
        )
    decided = gate(
        config=channels["config"],
        iteration=channels["iteration"],
        model=channels["uri"],
        history=channels["history"],
        **added,
    )
    plan.placed(decided, "light", "gate")
    return _Judged(
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
