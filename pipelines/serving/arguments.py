"""What vLLM's server is started with, so that it answers as the champion was measured."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from tspin.errors import InputError
from tspin_pipelines.serving.champion import Champion

__all__ = ["Settings", "measured_arguments", "named_arguments", "quoted"]


@dataclass(frozen=True)
class Settings:
    """What the registry does not know."""

    name: str
    """What requests call the model."""
    max_length: int | None = None
    """Tokens of prompt and response together; None is as many as the model takes."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """`prompt.chat_template_kwargs` of the run."""
    trust_remote_code: bool = False
    gpus: int = 1
    """That one copy of the model is spread over."""
    further: tuple[str, ...] = ()
    """Arguments of vLLM as they are; the last one counts."""


def measured_arguments(champion: Champion, settings: Settings, folder: str) -> list[str]:
    """Precision, stop ids, sampling and template, wherever the weights come from.

    Args:
        champion: What is served.
        settings: What else is asked for.
        folder: Where the champion's own files stand in the container.
    """
    arguments = ["--dtype", champion.dtype] if champion.dtype else []
    if champion.in_four_bits:
        arguments += ["--quantization", "bitsandbytes"]
    if champion.adapter is not None:
        # An adapter's server takes what ends a turn, and the template, from the base alone.
        if champion.generation is not None:
            arguments += ["--generation-config", folder]
        if champion.template is not None:
            arguments += ["--chat-template", f"{folder}/{champion.template}"]
    if champion.sampling:
        arguments += ["--override-generation-config", json.dumps(champion.sampling)]
    return [*arguments, *_asked(settings)]


def _asked(settings: Settings) -> list[str]:
    arguments = []
    if settings.template_kwargs:
        keywords = json.dumps(settings.template_kwargs, sort_keys=True)
        arguments += ["--default-chat-template-kwargs", keywords]
    if settings.max_length is not None:
        arguments += ["--max-model-len", str(settings.max_length)]
    if settings.gpus > 1:
        arguments += ["--tensor-parallel-size", str(settings.gpus)]
    if settings.trust_remote_code:
        arguments += ["--trust-remote-code"]
    return [*arguments, *settings.further]


def named_arguments(
    champion: Champion, settings: Settings, folder: str, *, base: str, revision: str | None = None
) -> list[str]:
    """Which weights a server of our own loads, and what they are called.

    The champion has a second name, which says which one it is: `deploy-check` looks at it.

    Args:
        champion: What is served.
        settings: The name that requests use.
        folder: Where the champion's files stand in the container.
        base: Of an adapter: its base's folder, or its name on the Hub.
        revision: Of a base on the Hub.
    """
    name, exact = settings.name, f"{settings.name}-{champion.short}"
    if champion.adapter is None:
        return ["--model", folder, "--served-model-name", name, exact]
    arguments = ["--model", base, *(["--revision", revision] if revision else [])]
    arguments += ["--served-model-name", f"{name}-base", "--enable-lora"]
    arguments += ["--max-lora-rank", str(champion.adapter.rank)]
    return [*arguments, "--lora-modules", f"{name}={folder}", f"{exact}={folder}"]


def quoted(arguments: list[str]) -> list[str]:
    """Arguments that a shell reads once more before vLLM does.

    KServe's preset hands them to `eval` (config/llmisvcconfig/config-llm-template.yaml of 0.20),
    which takes quotation marks away and braces apart.

    Raises:
        InputError: an argument holds what KServe's own templates begin with.
    """
    for argument in arguments:
        if "{{" in argument:
            raise InputError(f"{argument}: KServe reads {{{{ as the beginning of a template")
    return [shlex.quote(argument) for argument in arguments]
