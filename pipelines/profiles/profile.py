"""Profiles: where each stage of a pipeline runs and with what, one YAML file a kind of cluster.

Importable without torch, kfp or a cluster. The names in a profile (service account, claims,
secrets, pools) are those of the overlay in `k8s/overlays` that it belongs to.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tspin.config import RunConfig, load_yaml
from tspin.config.strict import Strict
from tspin.errors import InputError
from tspin_pipelines.profiles.lifetime import Lifetime
from tspin_pipelines.profiles.mirrors import Mirrors
from tspin_pipelines.profiles.names import Annotations, Digest, Labels, Name
from tspin_pipelines.profiles.project import Project
from tspin_pipelines.profiles.quantity import in_units
from tspin_pipelines.profiles.stage import Role, Stage
from tspin_trainjob.nodes import Nodes

__all__ = [
    "PROFILES",
    "Images",
    "Profile",
    "Stages",
    "load_profile",
    "profile_names",
    "profile_path",
]

PROFILES = Path(__file__).parent

UNDISTURBED = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""A node that runs a task is neither emptied to save money nor replaced by a newer one."""


class Images(Strict):
    """The project's images, one a role, in the cluster's registry."""

    registry: str = Field(pattern=r"^[a-z0-9][a-z0-9._:/-]*[a-z0-9]$")
    """What stands before the role: registry.example.com/tspin gives .../tspin/train."""
    tag: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    """The commit that the images were made from; `make push` gives it to them."""
    digests: dict[Role, Digest] = Field(default_factory=dict)
    """What the registry says of each image (sha256:...); none, or one a role that a stage has."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[Name, ...] = ()

    @field_validator("registry")
    @classmethod
    def _no_scheme(cls, value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if separator:
            raise ValueError(f"names of images have no scheme '{scheme}://'; write {rest}")
        if "//" in value:
            raise ValueError("has an empty part between two slashes")
        return value

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.tag == "latest":
            raise ValueError("images.tag is 'latest', which changes under a run; name a version")
        return self


class Stages(Strict):
    """What a pipeline consists of."""

    generate: Stage
    train: Stage
    evaluate: Stage
    light: Stage
    """Import, triplets, report: steps that need no accelerator and little of anything."""
    transfer: Stage
    """Training through a TrainJob: no accelerator, but room on disk for whole models."""
    promote: Stage
    """The registry's: checked first, promoted to last, with rights that no other stage has. As
    `transfer` where a profile does not say."""

    @model_validator(mode="before")
    @classmethod
    def _promoted(cls, values: Any) -> Any:
        if isinstance(values, dict) and "transfer" in values:
            return {"promote": values["transfer"], **values}
        return values

    @model_validator(mode="after")
    def _places(self) -> Self:
        for name in ("light", "transfer", "promote"):
            if getattr(self, name).accelerator:
                raise ValueError(f"stages.{name} asks for an accelerator; nothing could use one")
        for name in ("generate", "train", "light", "transfer", "promote"):
            shards = getattr(self, name).shards
            if shards != 1:
                raise ValueError(f"stages.{name}.shards is {shards}; only evaluations have shards")
        for name in ("generate", "evaluate", "light", "transfer", "promote"):
            nodes = getattr(self, name).nodes
            if nodes != 1:
                raise ValueError(f"stages.{name}.nodes is {nodes}; only training spans nodes")
        return self


class Profile(Strict):
    """One kind of cluster."""

    description: str
    overlay: Literal["gke", "eks", "aks", "onprem", "kind-cpu"]
    """The folder in k8s/overlays that makes what this profile names."""
    namespace: Name = "tspin"
    service_account: Name
    user: int = Field(10001, gt=0)
    """Numeric user and group of every task; the namespace refuses root."""
    images: Images
    queue: Name | None = None
    """Kueue's LocalQueue that tasks wait in; None leaves it to the scheduler."""
    pod_labels: Labels = Field(default_factory=dict)
    """Of every task's pod, such as those that a cloud's identity webhook looks for."""
    pod_annotations: Annotations = Field(default_factory=lambda: dict(UNDISTURBED))
    """Of every task's pod; by default those that keep a cluster from moving it."""
    ca_bundle: Name | None = None
    """ConfigMap whose `ca.crt` every task trusts, instead of its image's own certificates."""
    proxy: Name | None = None
    """ConfigMap with HTTPS_PROXY, HTTP_PROXY and NO_PROXY, for every task."""
    metrics_port: int | None = Field(None, gt=0, le=65535)
    """Port on which tasks that generate, train and evaluate answer Prometheus, unless the
    configuration has `system.metrics_port`; that of k8s/components/monitoring is 9464."""
    training_runtime: Name | None = None
    """TrainingRuntime of Kubeflow Trainer, needed to train on several nodes."""
    lifetime: Lifetime = Lifetime()
    """Of the workflows that runs are."""
    mirrors: Mirrors = Mirrors()
    """Other registries that show the champion of this one, too."""
    stages: Stages
    project: Project | None = None
    """What a project adds to a copy of its own."""

    @model_validator(mode="after")
    def _settings(self) -> Self:
        if self.project is None:
            return self
        for name in type(self.stages).model_fields:
            sources = getattr(self.stages, name).config_maps
            keys = {key for source in sources if source.name == "tspin-s3" for key in source.keys}
            if missing := sorted(self.project.settings.keys() - keys):
                raise ValueError(
                    f"project.settings has {', '.join(missing)}, which stages.{name}.config_maps "
                    "does not take from tspin-s3; add it there"
                )
        return self

    @model_validator(mode="after")
    def _waits(self) -> Self:
        for name in type(self.stages).model_fields:
            if getattr(self.stages, name).priority and self.queue is None:
                raise ValueError(f"stages.{name}.priority is an order in a queue; name the queue")
        return self

    @model_validator(mode="after")
    def _digests(self) -> Self:
        stages = [getattr(self.stages, name) for name in type(self.stages).model_fields]
        missing = sorted({stage.image for stage in stages} - self.images.digests.keys())
        if self.images.digests and missing:
            raise ValueError(f"images.digests names none for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _no_more_than_all_nodes(self) -> Self:
        train = self.stages.train
        if train.min_nodes is not None and train.min_nodes > train.nodes:
            raise ValueError(
                f"stages.train.min_nodes is {train.min_nodes}, more than the {train.nodes} of "
                "stages.train.nodes"
            )
        return self

    @model_validator(mode="after")
    def _several_nodes(self) -> Self:
        if self.stages.train.nodes > 1 and self.training_runtime is None:
            raise ValueError(
                f"stages.train.nodes is {self.stages.train.nodes}, which needs training_runtime"
            )
        return self

    def image(self, stage: Stage) -> str:
        """The image that a stage runs: registry/role:tag, with @digest where one is given."""
        digest = self.images.digests.get(stage.image)
        name = f"{self.images.registry}/{stage.image}:{self.images.tag}"
        return f"{name}@{digest}" if digest else name

    def labels(self, stage: Stage) -> dict[str, str]:
        """Labels of a stage's pods, Kueue's among them."""
        waits = {"queue-name": self.queue, "priority-class": stage.priority}
        kueue = {f"kueue.x-k8s.io/{key}": value for key, value in waits.items() if value}
        return {**self.pod_labels, **kueue}

    def training_nodes(self, config: RunConfig) -> Nodes:
        """The nodes of the train stage, for a TrainJob.

        Raises:
            InputError: launcher and nodes share no volume, so no model could pass between them.
        """
        stage = self.stages.train
        mounted = self.stages.transfer.volumes
        shared = [volume.path for volume in stage.volumes if volume in mounted]
        if not shared or self.training_runtime is None:
            raise InputError(
                f"stages.train.nodes is {stage.nodes}: training_runtime must name a "
                "TrainingRuntime, and stages.train and stages.transfer must mount a claim at the "
                "same path, where the model passes from one to the other"
            )
        return Nodes(
            count=stage.nodes,
            least=stage.nodes if stage.min_nodes is None else stage.min_nodes,
            wait_seconds=60 * stage.node_wait_minutes,
            processes=self._processes(config),
            namespace=self.namespace,
            runtime=self.training_runtime,
            image=self.image(stage),
            labels=self.labels(stage),
            resources=stage.resources,
            env=stage.env,
            shared=f"{shared[0]}/trainjobs",
        )

    def threads(self, config: RunConfig) -> int:
        """Of each computing process: as many as every stage has whole cores for.

        One number for all stages, since equal bytes need equal numbers (`tspin.models.threads`),
        and from the profile, not from the node that a pod happens to land on.
        """
        stages = self.stages
        cores = [in_units(stage.cpu.request) for stage in (stages.generate, stages.evaluate)]
        cores.append(in_units(stages.train.cpu.request) / self._processes(config))
        return max(1, int(min(cores)))

    def _processes(self, config: RunConfig) -> int:
        """Training processes on a node: as many as configured, or one a GPU."""
        asked, accelerator = config.system.num_processes, self.stages.train.accelerator
        if asked != "auto":
            return asked
        return accelerator.count if accelerator else 1


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def profile_path(name: str) -> Path:
    """The file of a shipped profile by name, or of one of your own by path (`*.yaml`).

    Raises:
        InputError: there is none of this name (with the nearest).
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(name, profile_names(), n=1)
        hint = f"did you mean '{close[0]}'?" if close else "or give the path of your own"
        known = ", ".join(profile_names())
        raise InputError(f"unknown profile '{name}'; there are {known}; {hint}")
    return path


def load_profile(name: str) -> Profile:
    """Load a shipped profile by name, or one of your own by path (`*.yaml`).

    Raises:
        InputError: there is none of this name (with the nearest), or what it says is wrong.
    """
    return load_yaml(Profile, profile_path(name))
