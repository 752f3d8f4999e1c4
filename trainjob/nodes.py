"""Which nodes a training gets, in the words of a profile; sent to the launching task as JSON."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from pipelines.profile import Profile
from tspin.config import RunConfig
from tspin.config.strict import Strict
from tspin.errors import InputError

__all__ = ["Nodes"]


class Nodes(Strict):
    """What a TrainJob asks for, beyond what its runtime says."""

    count: int = Field(gt=1)
    processes: int = Field(gt=0)
    """Training processes a node: one a GPU."""
    namespace: str
    runtime: str
    """TrainingRuntime in the same namespace: placement, volumes, secrets, security."""
    image: str
    labels: dict[str, str] = Field(default_factory=dict)
    """Of the TrainJob: Kueue's queue and priority."""
    resources: dict[str, dict[str, str]]
    """Requests and limits of each node."""
    env: dict[str, str] = Field(default_factory=dict)
    shared: str = Field(pattern="^/")
    """Folder on a volume that the launching pod and all nodes mount at the same path."""

    @classmethod
    def of(cls, profile: Profile, config: RunConfig) -> Self:
        """The nodes of a profile's train stage.

        Raises:
            InputError: launcher and nodes share no volume, so no model could pass between them.
        """
        stage = profile.stages.train
        mounted = profile.stages.light.volumes
        shared = [volume.path for volume in stage.volumes if volume in mounted]
        if not shared or profile.training_runtime is None:
            raise InputError(
                f"stages.train.nodes is {stage.nodes}: training_runtime must name a "
                "TrainingRuntime, and stages.train and stages.light must mount a claim at the "
                "same path, where the model passes from one to the other"
            )
        asked = config.system.num_processes
        gpus = stage.accelerator.count if stage.accelerator else 1
        return cls(
            count=stage.nodes,
            processes=gpus if asked == "auto" else asked,
            namespace=profile.namespace,
            runtime=profile.training_runtime,
            image=profile.image(stage),
            labels=profile.labels(stage),
            resources=_resources(profile),
            env=stage.env,
            shared=f"{shared[0]}/trainjobs",
        )


def _resources(profile: Profile) -> dict[str, Any]:
    stage = profile.stages.train
    gpus = {}
    if stage.accelerator:
        gpus = {stage.accelerator.resource: str(stage.accelerator.count)}
    return {
        "requests": {"cpu": stage.cpu.request, "memory": stage.memory.request, **gpus},
        "limits": {"cpu": stage.cpu.limit, "memory": stage.memory.limit, **gpus},
    }
