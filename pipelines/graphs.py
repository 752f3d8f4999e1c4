"""The pipelines: what depends on what; `pipelines.placement` says where it runs.

No `from __future__ import annotations` here: kfp reads the annotations as objects.
"""

from typing import Any

from kfp import dsl

from components import steps
from pipelines.placement import place
from pipelines.profile import Profile
from tspin.config import RunConfig

__all__ = ["evaluation"]


def evaluation(config: RunConfig, profile: Profile, cache: bool | None) -> Any:
    """Evaluation only: one model on the held-out records."""
    settings = config.model_dump_json()
    stages = profile.stages

    @dsl.pipeline(name="tspin-evaluate")
    def graph(
        heldout: str = str(config.data.heldout),
        model: str = config.model.path,
        iteration: int = 0,
        config: str = settings,
    ) -> None:
        data = steps.import_data(source=heldout)
        place(data, profile, stages.light, cache=cache)
        measured = steps.evaluate(
            config=config, model=model, iteration=iteration, heldout=data.outputs["data"]
        )
        place(measured, profile, stages.evaluate, cache=cache)

    return graph
