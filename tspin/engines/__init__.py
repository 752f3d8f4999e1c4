"""Engines that sample responses from a policy, all behind one protocol."""

from __future__ import annotations

from typing import Literal

from tspin.config import GenerateConfig, RunConfig
from tspin.engines.base import Engine, Generation, GenerationRequest, SamplingParams
from tspin.errors import InputError
from tspin.prompts import PromptTemplate

__all__ = [
    "Engine",
    "EngineName",
    "Generation",
    "GenerationRequest",
    "SamplingParams",
    "engine_name",
    "open_engine",
]

EngineName = Literal["transformers", "fake"]


def engine_name(config: GenerateConfig) -> EngineName:
    """The engine that a configuration means; 'auto' is transformers.

    Raises:
        InputError: the engine is not in this version, or `engine_args` are not its own.
    """
    if config.engine == "vllm":
        raise InputError(
            "generate.engine is 'vllm', which is not built in this version; use 'transformers' or "
            "'auto'"
        )
    name: EngineName = "fake" if config.engine == "fake" else "transformers"
    if config.engine_args:
        raise InputError(
            f"generate.engine_args is {config.engine_args!r}, but the engine '{name}' takes none; "
            "remove it"
        )
    return name


def open_engine(config: RunConfig, model: str, template: PromptTemplate) -> Engine:
    """Load a policy into the engine that the configuration names.

    Args:
        config: `generate`, `model` and `system` decide engine, precision and device.
        model: A model folder, an adapter folder, or a name on the Hub.
        template: Of the model's tokenizer.

    Raises:
        InputError: no such engine or model.
    """
    # Imported here: only the engine that is used needs its heavy packages.
    if engine_name(config.generate) == "fake":
        from tspin.engines.fake import FakeEngine

        return FakeEngine(template, batch_size=config.system.generate_batch_size)
    from tspin.engines.transformers import TransformersEngine
    from tspin.policy import load_policy, resolve_device

    device = resolve_device(config.system)
    policy = load_policy(model, config.model, device=device, trainable=False)
    return TransformersEngine(policy, template, batch_size=config.system.generate_batch_size)
