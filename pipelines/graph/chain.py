"""The iterations of a run, one after another: what waits for what.

A policy plays the next iteration at once. Where the gate cannot stop the run (`gate.margin` is
unset), evaluations and gates are a chain of their own beside it, which only the end waits for.
Where it can, triplets and training of the next iteration stand in its branch; its generation runs
beside the evaluation before it, in vain where the gate then refuses, or stands in the branch, too
(`system.speculate`).
"""

from __future__ import annotations

from typing import Any

from kfp import dsl

from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.finish import finish_node
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.graph.iteration import Responses, evaluation_node, iteration_node
from tspin_pipelines.plan import Plan

__all__ = ["Chain"]


class Chain:
    """Makes the nodes of all iterations, or of one alone."""

    def __init__(
        self,
        plan: Plan,
        generation: GenerationTasks,
        evaluations: EvaluationTasks,
        *,
        only: Responses | None = None,
    ) -> None:
        """Build the sub-pipelines: kfp allows that only outside of a pipeline.

        Args:
            plan: What is compiled.
            generation: Makes the tasks that sample responses.
            evaluations: Makes those that measure policies.
            only: Of a single iteration, where its y' come from; None plays all iterations.
        """
        self._plan, self._generation = plan, generation
        count = plan.config.iterations if only is None else 1
        self._first = 0 if only is None else plan.iteration
        self._gated = plan.config.gate.margin is not None
        self._ahead = self._gated and plan.pairs and plan.config.system.speculate
        later: Responses = "given" if self._ahead else "own"
        kinds = [only or "proto", *[later] * (count - 1)]
        self._iterations = [
            iteration_node(plan, generation, kind, **self._history(index, count))
            for index, kind in enumerate(kinds)
        ]
        self._evaluations = [evaluation_node(plan, evaluations) for _ in kinds]
        self._finish = finish_node(plan)
        self._early = finish_node(plan, begun=True) if self._ahead else self._finish

    def play(self, inputs: dict[str, Any], policy: Any, history: Any) -> None:
        """Play from the first iteration to the end.

        Args:
            inputs: By name, what all iterations have in common (`tspin_pipelines.graph.start`).
            policy: Artifact of the policy to start from.
            history: Artifact of the history before the first iteration.
        """
        self._from(0, inputs, policy, history, {})

    def _from(
        self,
        index: int,
        inputs: dict[str, Any],
        policy: Any,
        history: Any,
        responses: dict[str, Any],
    ) -> None:
        """Play the rest.

        `responses` has those of the policy, synthetic, if they are there already, and those of the
        policies before it, earlier, if its triplets have any.
        """
        number = self._first + index
        played = self._played(index, inputs, policy, responses)
        judged = self._judged(index, inputs, played, history)
        end = {"config": inputs["config"], "history": judged["history"], "best": judged["best"]}
        earlier = {"earlier": played["collected"]} if "collected" in played else {}
        if index + 1 == len(self._iterations):
            self._plan.node(self._finish(**end), "finish")
        elif not self._gated:
            self._from(index + 1, inputs, played["policy"], judged["history"], earlier)
        else:
            begun = self._begun(number + 1, inputs, played["policy"]) if self._ahead else {}
            with dsl.If(judged["Output"] == "continue", name=f"after iteration {number}"):
                later = begun | earlier
                self._from(index + 1, inputs, played["policy"], judged["history"], later)
            with dsl.Else(name=f"stop after iteration {number}"):
                early = {"begun": begun["synthetic"]} if begun else {}
                self._plan.node(self._early(**end, **early), "finish")

    def _history(self, index: int, count: int) -> dict[str, bool]:
        """Whether an iteration's node takes earlier responses, and whether it hands them on."""
        train, number = self._plan.config.train, self._first + index
        return {
            "earlier": len(train.history_at(number)) > 1,
            "collects": index + 1 < count and len(train.history_at(number + 1)) > 1,
        }

    def _played(
        self, index: int, inputs: dict[str, Any], policy: Any, responses: dict[str, Any]
    ) -> Any:
        number = self._first + index
        names = ["settings", "annotated", *(["proto"] if self._plan.pairs else [])]
        shared = {name: inputs[name] for name in names}
        task = self._iterations[index](iteration=number, policy=policy, **shared, **responses)
        return self._plan.node(task, f"iteration {number}").outputs

    def _judged(self, index: int, inputs: dict[str, Any], played: Any, history: Any) -> Any:
        plan, number = self._plan, self._first + index
        shared = {"config": inputs["config"], "settings": inputs["settings"]}
        if plan.measures:
            shared["heldout"] = inputs["heldout"]
        if plan.measures and plan.pairs:
            shared["heldout_proto"] = inputs["heldout_proto"]
        made = ["policy", "uri", "training", *(["triplets"] if plan.pairs else [])]
        task = self._evaluations[index](
            iteration=number, history=history, **shared, **{name: played[name] for name in made}
        )
        title = "evaluation" if plan.measures else "gate"
        return plan.node(task, f"{title} {number}").outputs

    def _begun(self, number: int, inputs: dict[str, Any], policy: Any) -> dict[str, Any]:
        responses = self._generation.responses(
            f"generation {number}",
            settings=inputs["settings"],
            iteration=number,
            policy=policy,
            annotated=inputs["annotated"],
        )
        return {"synthetic": responses}
