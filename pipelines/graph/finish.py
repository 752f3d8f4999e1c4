"""How a run ends, early or not: the best model, the report, the promotion."""

from __future__ import annotations

from typing import Any

from kfp import dsl

from tspin_components.promote import promote
from tspin_components.report import report
from tspin_pipelines.graph.signature import sub_pipeline
from tspin_pipelines.plan import Plan

__all__ = ["finish_node"]


def finish_node(plan: Plan, *, begun: bool = False) -> Any:
    """The sub-pipeline that ends a run; inputs by name: config, history, best.

    Args:
        plan: Decides whether a model is promoted.
        begun: Whether the next iteration has begun already: `begun` is then a further input, its
            responses, of which the report says what they cost.
    """
    inputs = {"config": str, "history": dsl.Input[dsl.Dataset], "best": str}
    return sub_pipeline(
        "early-finish" if begun else "finish",
        "The best model, the report, and the promotion if a registry is given.",
        inputs | ({"begun": dsl.Input[dsl.Dataset]} if begun else {}),
        None,
        lambda channels: _finish(plan, **channels),
    )


def _finish(plan: Plan, config: Any, history: Any, best: Any, **begun: Any) -> None:
    told = report(history=history, **begun)
    plan.placed(told, "light", "report")
    model = dsl.importer(artifact_uri=best, artifact_class=dsl.Model, reimport=False)
    model.set_display_name("best model")
    if plan.registry is None:
        return
    promoted = promote(
        config=config,
        registry=plan.registry,
        candidate=model.output,
        history=history,
        run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        namespace=plan.profile.namespace,
        **plan.mirrors(),
    )
    plan.placed(promoted, "promote", "promote")
    # Another try is another comparison; and a refusal is not a fault of the machine.
    promoted.set_caching_options(False).set_retry(0)
