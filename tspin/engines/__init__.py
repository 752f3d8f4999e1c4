"""Engines that sample responses from a policy, all behind one protocol."""

from __future__ import annotations

from tspin.config import RunConfig
from tspin.engines.base import (
    BATCHES_A_GROUP,
    Completion,
    Engine,
    GenerationRequest,
    SamplingParams,
)
from tspin.engines.choice import EngineName, engine_name, engine_parameters
from tspin.models.folder import ModelFolder
from tspin.tokens.prompts import PromptTemplate

__all__ = [
    "BATCHES_A_GROUP",
    "Completion",
    "Engine",
    "EngineName",
    "GenerationRequest",
    "SamplingParams",
    "engine_name",
    "engine_parameters",
    "open_engine",
]


def open_engine(config: RunConfig, model: str | ModelFolder, template: PromptTemplate) -> Engine:
    """Load a policy into the engine that the configuration names.

    Args:
        config: `generate`, `model`, `prompt` and `system` decide engine, precision and device.
        model: A model folder, an adapter folder, or a name on the Hub; or one that was found.
        template: Of the model's tokenizer.

    Raises:
        InputError: no such engine or model, or the model does not fit into the engine's memory.
        TspinError: the engine did not start.
    """
    # Imported here: only the engine that is used needs its heavy packages.
    name, batch_size = engine_name(config), config.system.generate_batch_size
    if name == "fake":
        from tspin.engines.fake import FakeEngine

        return FakeEngine(template, batch_size=batch_size)
    if name == "vllm":
        from tspin.engines.vllm import open_vllm

        return open_vllm(config, model, template)
    from tspin.engines.room import memory_of_gpus, refuse_too_large
    from tspin.engines.transformers import TransformersEngine
    from tspin.models.policy import load_policy, resolve_device

    instead = "Set generate.engine to 'vllm', which spreads a model over several GPUs"
    refuse_too_large(model, config, memory_of_gpus(config.system), instead)
    device = resolve_device(config.system)
    policy = load_policy(model, config.model, device=device, trainable=False)
    return TransformersEngine(policy, template, batch_size=batch_size)
