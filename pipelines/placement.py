"""Puts a task of a pipeline where its stage of the profile says, with what it says."""

from __future__ import annotations

from kfp import dsl, kubernetes

from tspin.progress.status import RUN_ID
from tspin_cluster.placement import Match
from tspin_pipelines.profiles.network import CERTIFICATES, PROXY, TRUST
from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.profiles.stage import Stage

__all__ = ["MONITORED", "let_monitor", "place", "place_bare", "place_in_time"]

MONITORED = {"tspin.io/metrics": "true"}
"""Of the pods that k8s/components/monitoring lets Prometheus ask: kfp-kubernetes 2.17 can declare
no port of a container, by which a PodMonitor could find them."""

_SHM = "/dev/shm"  # noqa: S108  (the pod's own, not a file in a shared folder)


def place(
    task: dsl.PipelineTask, profile: Profile, stage: Stage, *, cache: bool | None = None
) -> dsl.PipelineTask:
    """Apply a stage to a task: image, user, resources, nodes, mounts, environment, retries.

    Args:
        task: Of a component; changed in place.
        profile: Where the stage is from: images and how they are pulled.
        stage: What is applied.
        cache: Overrides the stage's caching.
    """
    task.set_container_image(profile.image(stage))
    kubernetes.set_image_pull_policy(task, profile.images.pull_policy)
    if profile.images.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.images.pull_secrets))
    for label, value in profile.labels(stage).items():
        kubernetes.add_pod_label(task, label, value)
    for annotation, value in profile.pod_annotations.items():
        kubernetes.add_pod_annotation(task, annotation, value)
    kubernetes.set_security_context(
        task, run_as_user=profile.user, run_as_group=profile.user, run_as_non_root=True
    )
    place_in_time(task, stage, cache=cache)
    _resources(task, stage)
    _nodes(task, stage)
    _environment(task, stage)
    _network(task, profile)
    return task


def place_bare(task: dsl.PipelineTask, profile: Profile) -> dsl.PipelineTask:
    """Place a task that looks whether what all others wait for is there.

    Like the light stage, without what would keep a pod from starting where it is missing: queue,
    claims, Secrets, ConfigMaps. It is tried once and never taken from the cache: what is missing
    now is missing again a minute later.
    """
    light = profile.stages.light
    settings = [source.model_copy(update={"optional": True}) for source in light.config_maps]
    bare = {"volumes": (), "secrets": (), "priority": None, "config_maps": tuple(settings)}
    place(task, profile.model_copy(update={"queue": None}), light.model_copy(update=bare))
    return task.set_caching_options(False).set_retry(0)


def let_monitor(task: dsl.PipelineTask) -> None:
    """Let Prometheus find a task's pod, and call the run in its metrics as Kubeflow does."""
    for label, value in MONITORED.items():
        kubernetes.add_pod_label(task, label, value)
    kubernetes.use_field_path_as_env(task, RUN_ID, "metadata.labels['pipeline/runid']")


def place_in_time(task: dsl.PipelineTask, stage: Stage, *, cache: bool | None = None) -> None:
    """Apply only what a stage says of when: retries, timeout, caching.

    Retries are Argo's: each is a new pod, which continues from checkpoints or journal. Under
    Kueue every pod of a task is a workload of its own that waits in the queue again, and while it
    waits it holds no GPU. Argo counts that waiting as part of `backoffMaxDuration`, from the first
    try on, and gives up the retries that are left when it has passed. So the limit is not the time
    that the work takes but that of all tries and their waits, with room for the queue
    (`Stage.all_tries_seconds`): with less, a training that was preempted twice would not be
    started a third time, although `limit` allows it.

    Args:
        task: Changed in place.
        stage: Says how often, how long, and whether cached.
        cache: Overrides the stage's caching.
    """
    retry = stage.retry
    until = f"{stage.all_tries_seconds}s"
    task.set_retry(retry.limit, f"{retry.backoff_seconds}s", retry.factor, until)
    task.set_caching_options(stage.caching if cache is None else cache)
    kubernetes.set_timeout(task, stage.timeout_seconds)


def _resources(task: dsl.PipelineTask, stage: Stage) -> None:
    task.set_cpu_request(stage.cpu.request).set_cpu_limit(stage.cpu.limit)
    task.set_memory_request(stage.memory.request).set_memory_limit(stage.memory.limit)
    if stage.accelerator:
        task.set_accelerator_type(stage.accelerator.resource)
        task.set_accelerator_limit(stage.accelerator.count)
    if stage.shared_memory:
        kubernetes.empty_dir_mount(
            task, "shm", _SHM, medium="Memory", size_limit=stage.shared_memory
        )
    for volume in stage.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)


def _nodes(task: dsl.PipelineTask, stage: Stage) -> None:
    for label, value in stage.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in stage.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value or "", taint.effect)
    if stage.affinity.required:
        kubernetes.add_node_affinity(task, _terms(stage.affinity.required))
    for preference in stage.affinity.preferred:
        kubernetes.add_node_affinity(task, _terms(preference.match), weight=preference.weight)


def _terms(matches: tuple[Match, ...]) -> list[dict[str, object]]:
    return [{"key": m.key, "operator": m.operator, "values": list(m.values)} for m in matches]


def _environment(task: dsl.PipelineTask, stage: Stage) -> None:
    for name, value in stage.env.items():
        task.set_env_variable(name, value)
    for secret in stage.secrets:
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), secret.optional)
    for settings in stage.config_maps:
        kubernetes.use_config_map_as_env(
            task, settings.name, dict(settings.keys), settings.optional
        )


def _network(task: dsl.PipelineTask, profile: Profile) -> None:
    """Whom a task trusts, and through whom it goes out."""
    # Optional, since a pod that waits for it could not say that it is missing.
    if profile.ca_bundle is not None:
        kubernetes.use_config_map_as_volume(task, profile.ca_bundle, CERTIFICATES, optional=True)
        for variable in TRUST:
            task.set_env_variable(variable, f"{CERTIFICATES}/ca.crt")
    if profile.proxy is not None:
        keys = {variable: variable for variable in PROXY}
        kubernetes.use_config_map_as_env(task, profile.proxy, keys, optional=True)
