"""From what a command is asked for to what is served, and from that to documents."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.registry import Registry
from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.serving.arguments import Settings
from tspin_pipelines.serving.champion import Champion, champion_before, read_champion
from tspin_pipelines.serving.deployment import deployment_documents
from tspin_pipelines.serving.kserve import inference_service_documents, llm_documents
from tspin_pipelines.serving.serving import Release, Serving
from tspin_pipelines.serving.source import base_source

__all__ = ["HEADER", "Asked", "Target", "documents_of", "manifest_text", "serving_of"]

log = logging.getLogger(__name__)

HEADER = "# Written by `tspin deploy`"
Target = Literal["kserve", "inferenceservice", "vllm"]

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
"""Of a Service, with room for what KServe puts behind it."""
_TAGGED = re.compile(r"[^\s@]+/[^\s@/:]+(?::(?P<tag>[\w.-]+))?(?P<digest>@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True)
class Asked:
    """What a command was given beside registry, profile and configuration."""

    name: str
    number: int | None
    namespace: str | None
    image: str | None
    base: str | None
    replicas: int
    canary: int | None
    further: tuple[str, ...]
    oci: bool = False
    """Whether the model comes as the image that `tspin export --oci` made of it."""


def serving_of(registry: str, profile: Profile, config: RunConfig | None, asked: Asked) -> Serving:
    """Read the champion, and the one before it where both are to share.

    Args:
        registry: Where the champions stand.
        profile: Of the cluster.
        config: Of the run that made the champion, for what the registry does not know.
        asked: What else there is.

    Raises:
        InputError: there is no such champion, or something does not fit.
        TspinError: the registry cannot be reached, or was changed.
    """
    if not _NAME.fullmatch(asked.name):
        raise InputError(
            f"--name {asked.name}: at most 40 small letters, digits and '-', a letter first"
        )
    opened = Registry(registry)
    champion = read_champion(opened, asked.number)
    _warn_of_start(champion)
    before = None if asked.canary is None else champion_before(opened, champion)
    releases = [
        _release(c, profile, asked.base, _oci(opened, c) if asked.oci else None)
        for c in (before, champion)
        if c is not None
    ]
    stage = profile.stages.generate
    prompt = {} if config is None else _prompt(config)
    return Serving(
        namespace=asked.namespace or profile.namespace,
        profile=profile,
        image=_image(profile, asked.image),
        replicas=asked.replicas,
        settings=Settings(
            name=asked.name,
            gpus=stage.accelerator.count if stage.accelerator else 1,
            further=asked.further,
            **prompt,
        ),
        release=releases[0],
        canary=releases[1] if before is not None else None,
        share=asked.canary or 0,
    )


def _warn_of_start(champion: Champion) -> None:
    if start := champion.unwritten_start:
        log.warning(
            "champion %d: its chat template writes no %s, which training put before every prompt; "
            "requests to /v1/chat/completions ask without it. Promote what `tspin export` makes of "
            "the model: there the template writes it",
            champion.record.number,
            start,
        )


def documents_of(target: Target, serving: Serving) -> list[dict[str, Any]]:
    """The objects of a target, in the order in which they are applied.

    Raises:
        InputError: the target cannot have it so.
    """
    if serving.release.oci is not None and target != "kserve":
        raise InputError(f"--oci: with --to {target} pods fetch from the registry; --to kserve")
    builders = {
        "kserve": llm_documents,
        "inferenceservice": inference_service_documents,
        "vllm": deployment_documents,
    }
    return builders[target](serving)


def manifest_text(serving: Serving, documents: list[dict[str, Any]]) -> str:
    """The documents as YAML, with a line on top that says what they serve."""
    shown = [_told(release) for release in (serving.release, serving.canary) if release]
    head = f"{HEADER} from {serving.release.champion.registry}: {', '.join(shown)}.\n"
    return head + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time: anchors say nothing to who reads a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _told(release: Release) -> str:
    champion = release.champion
    return f"champion {champion.record.number} ({champion.short})"


def _release(champion: Champion, profile: Profile, base: str | None, oci: str | None) -> Release:
    if champion.adapter is None:
        return Release(champion, None, oci)
    if oci is not None:  # workload_lora.go of KServe 0.20
        raise InputError("--oci: KServe takes no adapter from an image; export it with --merge")
    return Release(champion, base_source(champion.adapter, base, profile.stages.generate.volumes))


def _oci(registry: Registry, champion: Champion) -> str:
    """The image that was made of a champion last."""
    notes = registry.images.of(champion.record.model)
    if not notes:
        raise InputError(
            f"{registry.uri}: no image was made of champion {champion.record.number}; tspin export "
            f"--registry {registry.uri} --number {champion.record.number} --oci HOST/PATH"
        )
    return notes[-1].image


def _prompt(config: RunConfig) -> dict[str, Any]:
    return {
        "max_length": config.prompt.max_length,
        "template_kwargs": config.prompt.chat_template_kwargs,
        "trust_remote_code": config.model.trust_remote_code,
    }


def _image(profile: Profile, given: str | None) -> str:
    """The image with vLLM, pinned."""
    stage = profile.stages.generate
    if given is None:
        if stage.image == "cpu":
            raise InputError(
                "the profile generates in the image 'cpu', which has no vLLM; name one that has "
                "with --image"
            )
        return profile.image(stage)
    match = _TAGGED.fullmatch(given)
    if match is None or not (match["digest"] or match["tag"]) or match["tag"] == "latest":
        raise InputError(
            f"--image {given}: expected REGISTRY/NAME with a tag that stays (not latest) or a "
            "digest @sha256:..."
        )
    return given
