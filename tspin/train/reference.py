"""Log-probabilities under the reference policy, from one pass before training."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch
import torch.distributed
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from tspin.files import atomic_file
from tspin.forward.passes import ForwardPasses, evaluating, on_device
from tspin.models.policy import Policy
from tspin.models.sharding import is_sharded
from tspin.records.manifest import Manifest
from tspin.tokens.examples import Examples
from tspin.train.arguments import TSPINConfig

__all__ = ["needs_reference", "reference_key", "reference_logps"]

log = logging.getLogger(__name__)

_NAME = "reference_logps"


def needs_reference(method: str) -> bool:
    """Whether a method compares with the policy at the start of the iteration."""
    return method in ("spin", "space", "tspin_ref")


def reference_key(manifest: Manifest) -> str:
    """What a cache of reference logps belongs to: policy, data, template, method and precision."""
    names = ("method", "beta", "max_length", "over_long", "dtype", "lora")
    parts: list[Any] = [
        manifest.model,
        manifest.template,
        manifest.seed,
        sorted(manifest.inputs.items()),
    ]
    parts += [manifest.parameters[name] for name in names]
    if "quantize" in manifest.parameters:  # Only of quantised weights: older keys hold as well.
        parts.append(manifest.parameters["quantize"])
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def reference_logps(
    policy: Policy,
    examples: Examples,
    cache: Path,
    *,
    key: str,
    passes: ForwardPasses,
    args: TSPINConfig,
) -> npt.NDArray[np.float64]:
    """Summed logps of every response under the policy that is about to be trained, in nats.

    The reference is that policy at the start of the iteration, so its own weights are asked
    before they change, and no second model exists at any time. Every process computes a share.

    Args:
        policy: Before its first step.
        examples: Whose responses.
        cache: A safetensors file that keeps them for a training that is resumed.
        key: What the cache must have been made from (see `reference_key`).
        passes: How forward passes are made.
        args: The device, the precision, and the tokens a pass.

    Returns:
        Shape (samples, roles): a row for each y' of each example.
    """
    known = _load(cache, key)
    if known is not None:
        return known
    log.info("one pass of the reference policy over %d examples", len(examples))
    rank, world_size = _place()
    every = passes.cut(range(len(examples)), examples.sizes(), args.tokens_per_device)
    with (
        passes.on(policy),
        evaluating(policy),
        torch.autocast(args.device.type, torch.bfloat16, args.bf16),
    ):
        logps = _logps_of(policy, examples, every[rank::world_size], passes, args.device)
        if is_sharded(policy) and rank >= (len(every) % world_size or world_size):
            # Weights are gathered in each pass, so all processes make as many.
            stand_in = passes.collate([examples.shortest()])
            passes.logps(policy, on_device(stand_in, args.device))
    if world_size > 1:
        torch.distributed.all_reduce(logps)
    result: npt.NDArray[np.float64] = logps.cpu().numpy()
    if rank == 0:
        _save(cache, key, result)
    return result


def _logps_of(
    policy: Policy,
    examples: Examples,
    share: list[list[int]],
    passes: ForwardPasses,
    device: torch.device,
) -> Tensor:
    """(samples, roles) logps of a share of the forward passes, 0 elsewhere."""
    shape = examples.shape
    logps = torch.zeros(shape, dtype=torch.float64, device=device)
    for indices in share:
        batch = passes.collate([item for index in indices for item in examples.items(index)])
        sums, _ = passes.logps(policy, on_device(batch, device))
        logps[examples.places(indices)] = sums.view(shape[1], -1).T.double()
    return logps


def _place() -> tuple[int, int]:
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _load(cache: Path, key: str) -> npt.NDArray[np.float64] | None:
    if not cache.is_file():
        return None
    with safe_open(cache, framework="numpy") as file:
        if (file.metadata() or {}).get("key") != key:
            return None
        logps: npt.NDArray[np.float64] = file.get_tensor(_NAME)
        return logps


def _save(cache: Path, key: str, logps: npt.NDArray[np.float64]) -> None:
    with atomic_file(cache) as file:
        file.write(save({_NAME: logps}, metadata={"key": key}))
