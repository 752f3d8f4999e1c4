"""From the run configuration to vLLM's engine arguments; whatever cannot work is refused here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tspin.config import ModelConfig, RunConfig
from tspin.engines.choice import usable_vllm, vllm_device
from tspin.engines.room import cpu_room, gpu_room, memory_of_gpus, need_of, shared_size
from tspin.errors import InputError
from tspin.models.adapter import check_lora, served_rank
from tspin.models.configuration import context_length
from tspin.models.device import dtype_name, resolve_dtype
from tspin.models.folder import ModelFolder, adapter_vocabulary, find_model
from tspin.models.quantization import check_quantization, is_quantized

__all__ = [
    "adapter_args",
    "adapter_folder",
    "quantization_args",
    "shared_by",
    "vllm_args",
    "vllm_environment",
]

_OWN = {
    "model": "model.path",
    "tokenizer": "model.path",
    "revision": "model.revision",
    "dtype": "model.dtype",
    "max_model_len": "prompt.max_length",
    "trust_remote_code": "model.trust_remote_code",
    "enable_lora": "train.lora",
}
"""What has a setting of its own, because every engine and step must agree on it."""

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    # A process that has threads, or has used a GPU, cannot be forked.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Where the user has set nothing else."""


def vllm_args(config: RunConfig, model: str | ModelFolder) -> dict[str, Any]:
    """Arguments of vLLM's engine for a policy: the configured ones and what they leave open.

    Args:
        config: `generate`, `model`, `prompt` and `system` are used.
        model: A model folder, an adapter folder, or a name on the Hub.

    Raises:
        InputError: vLLM cannot work here, an argument that another setting decides, no such model,
            or the model does not fit.
    """
    package = usable_vllm(config)
    own_arguments = dict(config.generate.engine_args)
    _refuse_owned(own_arguments)
    quantization = quantization_args(config, own_arguments, "generate.engine_args")
    folder = find_model(model, config.model)
    base = folder.base(config.model) if folder.is_adapter else folder
    limits = (config.prompt.max_length, context_length(folder, config.model))
    tokens = min(limit for limit in limits if limit is not None)
    device = vllm_device(config)
    dtype = resolve_dtype(config.model, device)
    need = need_of(
        base, config.model, tokens=tokens, dtype=dtype, quantized="quantization" in own_arguments
    )
    arguments: dict[str, Any] = {
        "model": str(base.path),
        "tokenizer": str(base.path),
        "trust_remote_code": config.model.trust_remote_code,
        "dtype": dtype_name(config.model, device),
        "max_model_len": tokens,
        # The policy itself is sampled from, not what its generation_config.json makes of it.
        "generation_config": "vllm",
        # Token ids come from this project's own template; vLLM's tokenizer only finds stop strings.
        "skip_tokenizer_init": not config.generate.stop,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **quantization,
        **adapter_args(folder),
    }
    if package.on_cpu:
        arguments |= {
            # A prompt cut in pieces draws from its generator at an offset, which a CPU's has not.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(tokens, 4096),
            **cpu_room(need, own_arguments),
        }
    else:
        arguments |= gpu_room(need, own_arguments, memory_of_gpus(config.system))
    return arguments | own_arguments


def _refuse_owned(arguments: dict[str, Any]) -> None:
    for name in arguments.keys() & _OWN.keys():
        raise InputError(
            f"generate.engine_args.{name} is {arguments[name]!r}; every step must agree on it, so "
            f"set {_OWN[name]} instead"
        )


def quantization_args(
    config: RunConfig, own_arguments: Mapping[str, Any], section: str
) -> dict[str, Any]:
    """How vLLM quantises a base in four bits while it loads it; nothing for weights as they are.

    As bitsandbytes does here: NF4, blocks of 64, scales quantised too
    (vllm/model_executor/model_loader/bitsandbytes_loader.py, `_unquantized_generator`). It starts
    from the files' precision, and computes in bfloat16 whatever the dtype.

    Args:
        config: `model` says whether to quantise.
        own_arguments: vLLM's arguments as configured.
        section: Where they stand.

    Raises:
        InputError: they ask for a quantisation of their own as well, bitsandbytes is missing, or
            the installed vLLM is for CPUs, on which it has no such layers.
    """
    asked = config.model.quantize
    if not is_quantized(config.model):
        return {}
    check_quantization(config.model)
    if vllm_device(config).type == "cpu":
        raise InputError(
            f"model.quantize is '{asked}', which vLLM has on GPUs only, and the installed vLLM "
            "computes on the CPU; set generate.engine and evaluate.harness.backend to "
            "'transformers'"
        )
    if "quantization" in own_arguments:
        raise InputError(
            f"{section}.quantization is {own_arguments['quantization']!r}, and model.quantize "
            f"'{asked}' decides how weights are quantised; remove one of them"
        )
    return {"quantization": "bitsandbytes"}


def shared_by(
    config: RunConfig, folder: ModelFolder, own_arguments: Mapping[str, Any], tokens: int | None
) -> dict[str, int]:
    """Over how many GPUs vLLM spreads a model that one is too small for; nothing where it is not.

    Args:
        config: Sections model, prompt and system.
        folder: The policy's.
        own_arguments: vLLM's arguments as configured; where they say how GPUs are used, they stand.
        tokens: The longest sequence; None where the model has no limit.
    """
    device = vllm_device(config)
    if device.type == "cpu" or any(name.endswith("_parallel_size") for name in own_arguments):
        return {}
    need = need_of(
        folder.base(config.model) if folder.is_adapter else folder,
        config.model,
        tokens=tokens or config.prompt.max_length,
        dtype=resolve_dtype(config.model, device),
        quantized="quantization" in own_arguments,
    )
    size = shared_size(need, own_arguments, memory_of_gpus(config.system))
    return {"tensor_parallel_size": size} if size > 1 else {}


def adapter_folder(model: str | ModelFolder, config: ModelConfig) -> str | None:
    """The folder of the LoRA adapter that a policy is; None for full weights."""
    folder = find_model(model, config)
    return str(folder.path.resolve()) if folder.is_adapter else None


def adapter_args(folder: ModelFolder) -> dict[str, Any]:
    """What vLLM must know of an adapter before it loads its base; nothing for full weights.

    Raises:
        InputError: not a LoRA adapter, or one of a higher rank than vLLM serves.
    """
    if not folder.is_adapter:
        return {}
    values = folder.adapter_config()
    check_lora(values, str(folder.path))
    if adapter_vocabulary(folder) is not None:
        raise InputError(
            f"{folder.path}: the adapter has embeddings of its own, which vLLM does not serve. "
            "Merge it into its base, or set generate.engine to 'transformers'"
        )
    rank = served_rank(values, str(folder.path), "set generate.engine to 'transformers'")
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}


@contextmanager
def vllm_environment(mark: str) -> Iterator[None]:
    """What vLLM reads while it starts, with the mark of its processes; put back afterwards."""
    variables = _ENVIRONMENT | {k: os.environ[k] for k in _ENVIRONMENT if k in os.environ}
    variables["VLLM_PROCESS_NAME_PREFIX"] = mark
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
