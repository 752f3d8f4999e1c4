"""What a profile needs of its cluster, for the checks in `tspin_cluster`."""

from __future__ import annotations

from collections.abc import Iterable

from tspin_cluster.needs import Claim, Gang, Keys, Needs
from tspin_pipelines.profiles.network import PROXY
from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.profiles.stage import Environment, Stage

__all__ = ["needs_of"]

_PULL = ".dockerconfigjson"


def needs_of(
    profile: Profile, names: Iterable[str] | None = None, artifact_bytes: int | None = None
) -> Needs:
    """All that the stages of a pipeline take from a cluster.

    Args:
        profile: Of the cluster.
        names: Stages that the pipeline has; None is all of them.
        artifact_bytes: Of the models of a whole run, where it is known.
    """
    chosen = type(profile.stages).model_fields if names is None else names
    stages = {name: getattr(profile.stages, name) for name in chosen}
    priorities = {stage.priority for stage in stages.values() if stage.priority}
    pulled = profile.images.pull_policy != "Never"
    return Needs(
        namespace=profile.namespace,
        overlay=profile.overlay,
        service_account=profile.service_account,
        claims=_claims(stages.values()),
        secrets=_secrets(profile, stages.values()),
        config_maps=_config_maps(profile, stages.values()),
        queue=profile.queue,
        priorities=tuple(sorted(priorities)),
        gangs=tuple(_gang(name, stage) for name, stage in stages.items()),
        images=tuple(sorted({profile.image(s) for s in stages.values()})) if pulled else (),
        runtime=profile.training_runtime if any(s.nodes > 1 for s in stages.values()) else None,
        artifact_bytes=artifact_bytes,
    )


def _gang(name: str, stage: Stage) -> Gang:
    gpus = {}
    if stage.accelerator is not None:
        gpus = {stage.accelerator.resource: str(stage.accelerator.count)}
    return Gang(
        stage=name,
        pods=stage.nodes,
        requests={"cpu": stage.cpu.request, "memory": stage.memory.request, **gpus},
        limits={"cpu": stage.cpu.limit, "memory": stage.memory.limit},
        placement=stage.placement,
    )


def _claims(stages: Iterable[Stage]) -> tuple[Claim, ...]:
    """Stages of different placements are on different nodes, and a claim may be in use on both."""
    users: dict[str, list[Stage]] = {}
    for stage in stages:
        for volume in stage.volumes:
            users.setdefault(volume.claim, []).append(stage)
    return tuple(
        Claim(
            name=name,
            shared=any(stage.nodes > 1 or stage.placement != of[0].placement for stage in of),
        )
        for name, of in sorted(users.items())
    )


def _secrets(profile: Profile, stages: Iterable[Stage]) -> tuple[Keys, ...]:
    pulling = [Keys(name=name, keys=(_PULL,)) for name in profile.images.pull_secrets]
    return (*_merged(source for stage in stages for source in stage.secrets), *pulling)


def _config_maps(profile: Profile, stages: Iterable[Stage]) -> tuple[Keys, ...]:
    network = []
    if profile.ca_bundle is not None:
        network.append(Keys(name=profile.ca_bundle, keys=("ca.crt",)))
    if profile.proxy is not None:
        network.append(Keys(name=profile.proxy, keys=PROXY))
    return (*_merged(source for stage in stages for source in stage.config_maps), *network)


def _merged(sources: Iterable[Environment]) -> list[Keys]:
    """Each object once, with the keys that any stage takes."""
    merged: dict[str, Keys] = {}
    for source in sources:
        before = merged.get(source.name, Keys(name=source.name, keys=(), optional=True))
        keys = tuple(dict.fromkeys([*before.keys, *source.keys]))
        optional = before.optional and source.optional
        merged[source.name] = Keys(name=source.name, keys=keys, optional=optional)
    return [merged[name] for name in sorted(merged)]
