"""What a pipeline is compiled from: configuration, profile, and what the command line adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kfp import dsl

from tspin.config import RunConfig
from tspin.harness.loading import FETCHED
from tspin_pipelines.needs import needs_of
from tspin_pipelines.placement import let_monitor, place, place_in_time
from tspin_pipelines.profiles.profile import Profile

__all__ = ["Plan", "StageName"]

_COMPUTING = ("generate", "train", "evaluate")
StageName = Literal["generate", "train", "evaluate", "light", "transfer", "promote"]


@dataclass(frozen=True)
class Plan:
    """One pipeline to compile."""

    config: RunConfig
    profile: Profile
    shards: int = 1
    """Parts that generation is split into, one pod each."""
    cache: bool | None = None
    """Overrides caching of every stage."""
    registry: str | None = None
    """Where the best model is promoted; None promotes none."""
    model: str | None = None
    """The policy to start from; None is the initial policy of the configuration."""
    iteration: int = 0
    """Which one a pipeline of a single iteration plays."""

    @property
    def pairs(self) -> bool:
        """Whether the method trains on responses of the policy; supervised fine-tuning does not."""
        return self.config.train.method != "sft"

    @property
    def measures(self) -> bool:
        """Whether policies are evaluated."""
        return self.config.data.heldout is not None

    @property
    def stored_model(self) -> bool:
        """Whether the model to start from is an artifact of some store, given by its URI."""
        return self.model is not None and "://" in self.model

    @property
    def shares_cache(self) -> bool:
        """Whether light tasks and those that load models have a volume in common."""
        stages = self.profile.stages
        return bool(set(stages.light.volumes) & set(stages.generate.volumes + stages.train.volumes))

    @property
    def fetches_tasks(self) -> bool:
        """Whether a light task fetches what the tasks of evaluations need into a shared volume."""
        stages = self.profile.stages
        shared = set(stages.light.volumes) & set(stages.evaluate.volumes)
        return bool(self.config.evaluate.tasks and shared)

    @property
    def metrics_port(self) -> int | None:
        """Where computing tasks answer Prometheus: as the configuration says, else the profile."""
        port = self.config.system.metrics_port
        return self.profile.metrics_port if port is None else port

    def lifetime(self) -> dsl.PipelineConfig:
        """What the profile says of a run as a whole, as kfp takes it."""
        lifetime = self.profile.lifetime
        return dsl.PipelineConfig(
            active_deadline_seconds=lifetime.deadline_seconds,
            ttl_seconds_after_finished=lifetime.keep_seconds,
            ttl_seconds_after_failure=lifetime.keep_failed_seconds,
        )

    def mirrors(self) -> dict[str, Any]:
        """Inputs of the tasks at the registry; none where none is said: a workflow has a limit."""
        mirrors = self.profile.mirrors
        addresses = {"mirrors": list(mirrors.addresses)} if mirrors.addresses else {}
        return addresses | ({"mirror_name": mirrors.name} if mirrors.name else {})

    def node(self, task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
        """Name a sub-pipeline; what of it is taken from the cache, its own tasks decide."""
        return task.set_caching_options(False).set_display_name(title)

    def config_json(self) -> str:
        """The configuration that steps get: what a pod cannot know is fixed for all of them.

        Checkpoints go to what outlives a pod, if there is any; threads are the same on all nodes.
        """
        system = self.config.system
        if system.threads == "auto":
            system = system.model_copy(update={"threads": self.profile.threads(self.config)})
        volumes = self.profile.stages.train.volumes
        if system.checkpoints is None and volumes:
            kept = {"checkpoints": f"{volumes[0].path}/checkpoints"}
            system = system.model_copy(update=kept)
        system = system.model_copy(update={"metrics_port": self.metrics_port})
        return self.config.model_copy(update={"system": system}).model_dump_json()

    def needs_json(self, *, trains: bool) -> str:
        """What the first task looks for in the cluster.

        Args:
            trains: Whether the pipeline has iterations, or only measures.
        """
        stages: list[StageName] = ["light"]
        stages += ["evaluate"] if self.measures else []
        if trains:
            stages += ["generate", "train"] if self.pairs else ["train"]
            stages += ["transfer"] if self.profile.stages.train.nodes > 1 else []
            stages += ["promote"] if self.registry is not None else []
        return needs_of(self.profile, stages).model_dump_json(exclude_defaults=True)

    def placed(self, task: dsl.PipelineTask, stage: StageName, title: str) -> dsl.PipelineTask:
        """Put a task where a stage runs, under a title that its reader understands.

        Args:
            task: Of a component; changed in place.
            stage: Name of a stage of the profile.
            title: In Kubeflow's graph.
        """
        place(task, self.profile, getattr(self.profile.stages, stage), cache=self.cache)
        if self.metrics_port is not None and stage in _COMPUTING:
            let_monitor(task)
        return task.set_display_name(title)

    def placed_with_harness(self, task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
        """Put a task where light ones run, but with what loads and scores tasks, if there are any.

        Args:
            task: Of a component; changed in place.
            title: In Kubeflow's graph.
        """
        stages = self.profile.stages
        stage = stages.light
        if self.config.evaluate.tasks:
            # The image has lm-evaluation-harness; what it has for GPUs is not used.
            stage = stage.model_copy(update={"image": stages.evaluate.image})
        place(task, self.profile, stage, cache=self.cache)
        return task.set_display_name(title)

    def finding_tasks(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """Let a task take what was fetched for `evaluate.tasks` from the cache, if anything was."""
        return task.set_env_variable(FETCHED, "true") if self.fetches_tasks else task

    def as_long_as(self, task: dsl.PipelineTask, stage: StageName) -> dsl.PipelineTask:
        """Give a task that waits for the work of a stage that stage's time, retries and caching."""
        place_in_time(task, getattr(self.profile.stages, stage), cache=self.cache)
        return task
