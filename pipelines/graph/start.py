"""Where a pipeline begins: inputs checked and imported, the policy to start from measured."""

from __future__ import annotations

from typing import Any

from kfp import dsl

from tspin.config import structure
from tspin_components.check_inputs import check_inputs
from tspin_components.check_registry import check_registry
from tspin_components.fetch_tasks import fetch_tasks
from tspin_components.gate import gate
from tspin_components.import_data import import_data
from tspin_components.import_model import import_model
from tspin_components.preflight import preflight
from tspin_pipelines.graph.evaluation import EvaluationTasks
from tspin_pipelines.graph.generation import GenerationTasks
from tspin_pipelines.placement import place_bare
from tspin_pipelines.plan import Plan

__all__ = ["Start"]


class Start:
    """The first tasks of a pipeline; each property of the run is made once."""

    def __init__(
        self,
        plan: Plan,
        generation: GenerationTasks,
        evaluations: EvaluationTasks,
        config: Any,
        model: Any = "",
        *,
        trains: bool = True,
    ) -> None:
        """Check the cluster and the inputs, and import them.

        Args:
            plan: What is compiled.
            generation: Makes the tasks of the proto-synthetic responses.
            evaluations: Makes those that measure the policy to start from.
            config: The parameter with the run configuration.
            model: The parameter with the policy to start from; '' is the initial policy.
            trains: Whether iterations follow.
        """
        self.plan = plan
        self._generation, self._evaluations = generation, evaluations
        self.config = config
        fit = preflight(needs=plan.needs_json(trains=trains))
        place_bare(fit, plan.profile).set_display_name("check the cluster")
        local = "" if plan.stored_model else model
        self._checked = check_inputs(config=config, structure=structure(plan.config), model=local)
        plan.placed(self._checked, "light", "check inputs").set_caching_options(False)
        self._checked.after(fit)
        if plan.registry is not None:
            # A task of its own, since it must run with the rights of the promotion, which the
            # tasks that run models and data have not.
            registry = check_registry(registry=plan.registry, **plan.mirrors()).after(fit)
            plan.placed(registry, "promote", "check registry").set_caching_options(False)
            self._checked.after(registry)
        self.settings = self._checked.outputs["settings"]
        self.initial, uri = self._named(plan.config.model.path, "initial", "initial policy")
        self.policy, self.uri = self.initial, uri
        if plan.stored_model:
            stored = dsl.importer(artifact_uri=model, artifact_class=dsl.Model, reimport=False)
            self.policy, self.uri = stored.set_display_name("policy").output, model
        elif plan.model is not None:
            self.policy, self.uri = self._named(model, "policy", "policy")
        self._fetched = [self._tasks()] if plan.fetches_tasks else []

    def _named(self, model: Any, identity: str, title: str) -> tuple[Any, Any]:
        found = self._checked.outputs[identity]
        fetched = found if self.plan.shares_cache else ""
        task = import_model(model=model, identity=found, fetch=fetched)
        self.plan.placed(task, "light", f"import {title}")
        return task.outputs["policy"], task.outputs["Output"]

    def _tasks(self) -> Any:
        task = self.plan.placed_with_harness(fetch_tasks(settings=self.settings), "fetch tasks")
        # What it leaves is not an output, and may be gone where Kubeflow remembers that it was.
        return task.set_caching_options(False)

    def records(self, role: str) -> Any:
        """The annotated or the held-out records."""
        task = import_data(settings=self.settings, role=role, sha256=self._checked.outputs[role])
        return self.plan.placed(task, "light", f"import {role} records").outputs["data"]

    def proto(self, records: Any, title: str, samples: int = 0) -> Any:
        """Responses of the initial policy.

        Args:
            records: What it answers.
            title: Of the task in Kubeflow's graph.
            samples: Responses to each; 0 are those of the settings.
        """
        return self._generation.responses(
            title,
            settings=self.settings,
            iteration=0,
            policy=self.initial,
            annotated=records,
            samples=samples,
        )

    def shared(self) -> dict[str, Any]:
        """The inputs that every iteration has in common."""
        inputs = {"config": self.config, "settings": self.settings}
        inputs["annotated"] = self.records("annotated")
        if self.plan.pairs:
            inputs["proto"] = self.proto(inputs["annotated"], "proto-synthetic responses")
        if self.plan.measures:
            inputs["heldout"] = self.records("heldout")
        if self.plan.pairs and self.plan.measures:
            inputs["heldout_proto"] = self.proto(
                inputs["heldout"], "proto-synthetic responses, held-out", samples=1
            )
        return inputs

    def measured(self, heldout: Any, iteration: int, **proto: Any) -> Any:
        """The evaluation of the policy to start from; all others come after its gate."""
        return self._evaluations.evaluation(
            "evaluate the start",
            settings=self.settings,
            iteration=iteration,
            policy=self.policy,
            heldout=heldout,
            after=self._fetched,
            **proto,
        )

    def history(self, iteration: int, inputs: dict[str, Any]) -> Any:
        """The history with the policy to start from, as the iteration before the first."""
        added = {}
        if self.plan.measures:
            compared = self.plan.pairs and self.plan.model is not None
            proto = {"proto": inputs["heldout_proto"]} if compared else {}
            added["evaluation"] = self.measured(inputs["heldout"], iteration, **proto)
        task = gate(config=self.config, iteration=iteration, model=self.uri, **added)
        return self.plan.placed(task, "light", "begin the history").outputs["grown"]
