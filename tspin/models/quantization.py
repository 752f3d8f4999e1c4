"""Frozen weights in four bits under a LoRA adapter (QLoRA, arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tspin.config import ModelConfig
from tspin.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "check_quantization",
    "is_quantized",
    "quantization_parameters",
    "quantized_loading",
    "settle_quantized",
    "weights_in",
    "without_kernel_warning",
]

log = logging.getLogger(__name__)


def is_quantized(config: ModelConfig) -> bool:
    """Whether base weights are kept in four bits."""
    return config.quantize != "none"


@contextmanager
def without_kernel_warning() -> Iterator[None]:
    """For the import of peft, which imports bitsandbytes wherever that is installed.

    On a CPU with AVX512-BF16 it warns that it could not fetch a kernel from the Hub. That kernel
    is never used (`settle_quantized`).
    """
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_quantization(config: ModelConfig, *, trains_all: bool = False) -> None:
    """Ask for the package that quantises, before any work; imports neither it nor torch.

    Raises:
        InputError: `model.quantize` needs bitsandbytes, which is not installed; or all weights are
            to be trained.
    """
    if not is_quantized(config):
        return
    if trains_all:
        raise InputError(
            f"model.quantize is '{config.quantize}', and weights in four bits cannot be trained: "
            "set train.lora, or model.quantize to 'none'"
        )
    try:
        version("bitsandbytes")
    except PackageNotFoundError:
        raise InputError(
            f"model.quantize is '{config.quantize}', which needs bitsandbytes, and it is not "
            "installed here: pip install 'tspin[quantize]', or set model.quantize to 'none'"
        ) from None


def quantization_parameters(config: ModelConfig) -> dict[str, str]:
    """What manifests say of it: nothing for weights as they are.

    So what was made before there was a choice is current for `quantize: none`, and for that alone.
    """
    return {"quantize": config.quantize} if is_quantized(config) else {}


def quantized_loading(
    config: ModelConfig, own: PreTrainedConfig, dtype: torch.dtype, device: torch.device | None
) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained` for weights in four bits; none for others.

    The paper's: NF4 in blocks of 64, whose scales are quantised once more in blocks of 256.

    Args:
        config: Whether to quantise.
        own: The model's config.json, as transformers has it.
        dtype: To compute in. The packed bits are stored as numbers of this type too, which is what
            the dtype of a policy is taken from.
        device: Where the weights are quantised, layer by layer as they are read: the whole model
            is at no time in memory as it was. None is the CPU.

    Raises:
        InputError: the weights are quantised already.
    """
    if not is_quantized(config):
        return {}
    if getattr(own, "quantization_config", None):
        raise InputError(
            f"model '{own.name_or_path}': its weights are quantised already, and model.quantize is "
            f"'{config.quantize}'; name the model that it was made from"
        )
    from transformers import BitsAndBytesConfig

    scheme = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype,
    )
    # Named in any case: bitsandbytes would take a GPU that the configuration does not.
    return {"quantization_config": scheme, "device_map": {"": "cpu" if device is None else device}}


def settle_quantized(model: PreTrainedModel, path: object) -> None:
    """Make a model that was just quantised one that can be trained after it was evaluated.

    bitsandbytes 0.50 repacks a layer's weights for good in the first pass in evaluation mode on a
    CPU with AVX512-BF16 (`Linear4bit.forward`). The packed kernel rounds to bfloat16 and has no
    backward pass: after one self-check, or one pass of the reference policy, no gradient goes
    through a layer any more but that of its adapter, with a warning at most.

    Args:
        model: As transformers loaded it.
        path: What to call it.

    Raises:
        InputError: nothing in it could be quantised.
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    if not layers:
        raise InputError(
            f"model '{path}': has no linear layer that can be quantised; set model.quantize to "
            "'none'"
        )
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    _tell_of_experts(model, path)


def _tell_of_experts(model: PreTrainedModel, path: object) -> None:
    """Say which matrices stay large: transformers keeps those of a mixture's experts in one."""
    stacked = [p for p in model.parameters() if p.ndim > 2]
    if stacked:
        log.warning(
            "model '%s': %d of its parameters are matrices of experts in one tensor, which "
            "bitsandbytes does not quantise; they stay in %s",
            path,
            sum(parameter.numel() for parameter in stacked),
            stacked[0].dtype,
        )


def weights_in(parameter: nn.Parameter) -> int:
    """How many weights a parameter holds, packed or not."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)
