"""The evaluation of a policy: one task, or a node with one task a shard and a merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kfp import dsl

from tspin_components.evaluate import evaluate
from tspin_components.merge_evaluations import merge_evaluations
from tspin_pipelines.graph.signature import sub_pipeline
from tspin_pipelines.plan import Plan

__all__ = ["EvaluationTasks"]


class EvaluationTasks:
    """Makes the tasks that measure policies; the output is the same however many shards."""

    def __init__(self, plan: Plan) -> None:
        """Build the nodes of the shards, with y0 to compare with and without.

        kfp allows that only outside of a pipeline; see also `GenerationTasks`.
        """
        self._plan = plan
        inputs = {
            "settings": str,
            "iteration": int,
            "policy": dsl.Input[dsl.Model],
            "heldout": dsl.Input[dsl.Dataset],
        }
        what = "A policy on the held-out records, by several pods."
        compared = {**inputs, "proto": dsl.Input[dsl.Dataset]}
        self._plain = sub_pipeline("sharded-evaluation", what, inputs, dsl.Dataset, self._sharded)
        self._compared = sub_pipeline(
            "sharded-comparison", what, compared, dsl.Dataset, self._sharded
        )

    def evaluation(
        self,
        title: str,
        *,
        settings: Any,
        iteration: Any,
        policy: Any,
        heldout: Any,
        after: Sequence[Any] = (),
        **proto: Any,
    ) -> Any:
        """Measure a policy.

        Args:
            title: Of the task in Kubeflow's graph.
            settings: What decides the step, JSON.
            iteration: That the policy ended; -1 for the initial one.
            policy: Artifact of the policy.
            heldout: Artifact of the held-out records.
            after: Tasks that it waits for, besides those whose outputs it takes.
            proto: `proto`, the artifact of the initial policy's responses, where there is one.
        """
        inputs = {
            "settings": settings,
            "iteration": iteration,
            "policy": policy,
            "heldout": heldout,
            **proto,
        }
        if self._plan.profile.stages.evaluate.shards == 1:
            task = self._plan.placed(evaluate(**inputs), "evaluate", title).after(*after)
            return self._plan.finding_tasks(task).outputs["evaluation"]
        node = self._compared if proto else self._plain
        return self._plan.node(node(**inputs), title).after(*after).output

    def _sharded(self, inputs: dict[str, Any]) -> Any:
        count = self._plan.profile.stages.evaluate.shards
        with dsl.ParallelFor(items=[f"{at}/{count}" for at in range(count)], name="shards") as at:
            part = self._plan.placed(evaluate(**inputs, shard=at), "evaluate", "a shard")
            self._plan.finding_tasks(part)
        merged = merge_evaluations(
            shards=dsl.Collected(part.outputs["evaluation"]), heldout=inputs["heldout"]
        )
        self._plan.placed_with_harness(merged, "merge")
        return self._plan.finding_tasks(merged).outputs["evaluation"]
