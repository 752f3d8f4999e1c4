"""One stage of a profile: its resources, its place, what it mounts, how often it is retried."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tspin.config.strict import Strict
from tspin_cluster.placement import Match, Placement, Toleration
from tspin_pipelines.profiles.names import Labels, Name, Variable
from tspin_pipelines.profiles.quantity import Quantity, in_units

__all__ = [
    "Accelerator",
    "Affinity",
    "Amount",
    "Environment",
    "Preference",
    "Retry",
    "Role",
    "Stage",
    "Volume",
]

Role = Literal["generate", "train", "evaluate", "cpu"]
"""An image of the project; all but cpu are built for a GPU."""


class Amount(Strict):
    """What a container is promised, and where it is stopped."""

    request: Quantity
    limit: Quantity

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if in_units(self.request) > in_units(self.limit):
            raise ValueError(f"the request {self.request} is above the limit {self.limit}")
        return self


class Accelerator(Strict):
    """GPUs; Kubernetes makes request and limit the same number."""

    resource: str = "nvidia.com/gpu"
    product: str
    """As the pool names it: nvidia-h100-80gb."""
    count: int = Field(gt=0)


class Preference(Strict):
    """Where the stage would rather be."""

    weight: int = Field(ge=1, le=100)
    match: tuple[Match, ...] = Field(min_length=1)


class Affinity(Strict):
    """Node affinity beyond the node selector."""

    required: tuple[Match, ...] = ()
    """All must hold."""
    preferred: tuple[Preference, ...] = ()


class Volume(Strict):
    """A claim and where it is mounted."""

    claim: Name
    path: str = Field(pattern="^/")


class Environment(Strict):
    """Keys of a Secret or ConfigMap as environment variables."""

    name: Name
    keys: dict[str, Variable] = Field(min_length=1)
    """Key to variable: {HF_TOKEN: HF_TOKEN}."""
    optional: bool = False
    """Whether a pod starts without it; otherwise it waits until somebody makes it."""


class Retry(Strict):
    """A failed or preempted task starts again and continues from its checkpoints."""

    limit: int = Field(ge=0)
    backoff_seconds: int = Field(60, gt=0)
    """Before the second try."""
    factor: int = Field(2, ge=1)
    """Each further wait is so many times the one before; Argo takes whole numbers only."""

    @property
    def waits(self) -> int:
        """Seconds between all tries together."""
        return sum(self.backoff_seconds * self.factor**number for number in range(self.limit))


class Stage(Strict):
    """How the tasks of one stage run."""

    image: Role
    accelerator: Accelerator | None = None
    price_per_gpu_hour: float | None = Field(None, ge=0)
    """What an hour of one GPU of this pool costs, a number without a currency: `tspin plan
    --profile` multiplies it with GPU-hours. All that the node costs belongs into it. Of no
    other use."""
    nodes: int = Field(1, gt=0)
    """More than one trains through a TrainJob, each node with these resources."""
    min_nodes: int | None = Field(None, gt=0)
    """As few nodes as a training may go on with, from its last checkpoint, where one is lost and
    none comes instead. None waits for all of them."""
    shards: int = Field(1, gt=0)
    """Pods that share each evaluation, every one with these resources; the GPUs of a pod share its
    part. Generation takes `--shards`."""
    node_wait_minutes: float = Field(30.0, gt=0)
    """How long nodes may be missing before a training goes on with one fewer."""
    cpu: Amount
    memory: Amount
    shared_memory: Quantity | None = None
    """Size of /dev/shm; it counts into the memory limit."""
    node_selector: Labels = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity = Affinity()
    volumes: tuple[Volume, ...] = ()
    env: dict[Variable, str] = Field(default_factory=dict)
    secrets: tuple[Environment, ...] = ()
    config_maps: tuple[Environment, ...] = ()
    retry: Retry
    timeout_seconds: int = Field(gt=0)
    priority: Name | None = None
    """Kueue's WorkloadPriorityClass: who gets a scarce pool first."""
    caching: bool = True
    """Whether Kubeflow may take the outputs of an equal task that ran before."""

    @property
    def placement(self) -> Placement:
        """Where its pods may be, without where they would rather be."""
        return Placement(
            selector=self.node_selector,
            required=self.affinity.required,
            tolerations=self.tolerations,
        )

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits as a container has them, GPUs in both."""
        gpus = {}
        if self.accelerator:
            gpus = {self.accelerator.resource: str(self.accelerator.count)}
        return {
            "requests": {"cpu": self.cpu.request, "memory": self.memory.request, **gpus},
            "limits": {"cpu": self.cpu.limit, "memory": self.memory.limit, **gpus},
        }

    @property
    def all_tries_seconds(self) -> int:
        """How long the tries of a task may last together, waiting for machines as long again.

        Kubeflow calls it the retries' maximal duration. Argo counts it from the first try's start,
        and not only tries no more after it but ends the try that is running.
        """
        return 2 * (self.retry.limit + 1) * self.timeout_seconds + self.retry.waits

    @model_validator(mode="after")
    def _accelerated(self) -> Self:
        if (self.image == "cpu") != (self.accelerator is None):
            asked = f"{self.accelerator.count} GPUs" if self.accelerator else "no accelerator"
            raise ValueError(f"image '{self.image}' with {asked}: a GPU image needs one, cpu none")
        return self

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.price_per_gpu_hour is not None and self.accelerator is None:
            raise ValueError("price_per_gpu_hour stands beside no accelerator; remove it")
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        shared = in_units(self.shared_memory or "0")
        if self.accelerator and self.accelerator.count > 1 and not shared:
            raise ValueError("several GPUs need shared_memory: NCCL fails on the default 64 MiB")
        if shared >= in_units(self.memory.limit):
            raise ValueError(f"shared_memory {self.shared_memory} fills memory's limit")
        return self
