"""Responses of a policy: one task, or a node with one task a shard and a merge."""

from __future__ import annotations

from typing import Any

from kfp import dsl

from tspin_components.generate import generate
from tspin_components.merge_responses import merge_responses
from tspin_pipelines.graph.signature import sub_pipeline
from tspin_pipelines.plan import Plan

__all__ = ["GenerationTasks"]


class GenerationTasks:
    """Makes the tasks that sample responses; the output is the same however many shards."""

    def __init__(self, plan: Plan) -> None:
        """Build the node of the shards: kfp allows that only outside of a pipeline."""
        self._plan = plan
        # A node of its own also because kfp.local puts the item of a loop in the place of every
        # output of another task that the loop is given; inputs of a node it leaves alone.
        inputs = {
            "settings": str,
            "iteration": int,
            "samples": int,
            "policy": dsl.Input[dsl.Model],
            "annotated": dsl.Input[dsl.Dataset],
        }
        self._node = sub_pipeline(
            "sharded-generation",
            "Responses to all prompts, by several pods.",
            inputs,
            dsl.Dataset,
            self._sharded,
        )

    def responses(
        self,
        title: str,
        *,
        settings: Any,
        iteration: Any,
        policy: Any,
        annotated: Any,
        samples: int = 0,
    ) -> Any:
        """Sample a response of a policy to every prompt.

        Args:
            title: Of the task in Kubeflow's graph.
            settings: What decides the step, JSON.
            iteration: Number of the iteration.
            policy: Artifact of the policy.
            annotated: Artifact of the records to answer.
            samples: Responses to each; 0 are those of the settings.
        """
        inputs = {
            "settings": settings,
            "iteration": iteration,
            "samples": samples,
            "policy": policy,
            "annotated": annotated,
        }
        if self._plan.shards == 1:
            task = self._plan.placed(generate(**inputs), "generate", title)
            return task.outputs["responses"]
        return self._plan.node(self._node(**inputs), title).output

    def _sharded(self, inputs: dict[str, Any]) -> Any:
        # Strings: kfp hands integers of a list on as floats.
        shards = [f"{index}/{self._plan.shards}" for index in range(self._plan.shards)]
        with dsl.ParallelFor(items=shards, name="shards") as shard:
            part = self._plan.placed(generate(**inputs, shard=shard), "generate", "a shard")
        merged = merge_responses(
            shards=dsl.Collected(part.outputs["responses"]), annotated=inputs["annotated"]
        )
        return self._plan.placed(merged, "light", "merge").outputs["responses"]
