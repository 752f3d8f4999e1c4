"""A policy's weights spread over processes (FSDP2), so that none of them holds all of them.

Each decoder layer is gathered when its turn comes and let go after it; so is the embedding where it
has weights of its own. The rest, which is the last norm and the output head, is one unit that stays
gathered: the head runs once a chunk of positions (`tspin.forward.logprobs`), on each process as
often as its own rows need, and a gathering is a call that all processes must make equally often.

What is kept are float32 shards. Under bfloat16 they are gathered as bfloat16, gradients are summed
in float32, and the values between the layers stay float32, as they do under autocast on one device:
rounded to bfloat16 there, summed log-probabilities come out wrong by whole nats. For the same
reasons accelerate's own `fsdp` arguments are not used (its precision is bfloat16 throughout, its
units gather the head with the last norm, and on a CPU it trains with DDP and says nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from tspin.attention.redirection import causal_model
from tspin.errors import InputError
from tspin.models.device import node_processes

__all__ = ["Sharding", "full_state_dict", "is_sharded", "load_sharded", "tied_names"]

AnyPolicy = TypeVar("AnyPolicy", bound=nn.Module)


@dataclass(frozen=True)
class Sharding:
    """How weights are spread."""

    device: torch.device
    """Where this process computes."""
    bfloat16: bool = False
    """Gather weights as bfloat16."""
    over: Literal["node", "all"] = "node"
    """Whether each node has a copy of the weights, or all of them have one together."""
    offload: bool = False
    """Keep the shards in the host's memory."""

    def mesh(self) -> DeviceMesh:
        """The processes, in rows that share one copy of the weights.

        Raises:
            InputError: nodes have unlike numbers of processes.
        """
        world = torch.distributed.get_world_size()
        local = node_processes()
        if self.over == "all" or local == world:
            return init_device_mesh(self.device.type, (world,))
        if world % local:
            raise InputError(
                f"system.shard_over is 'node', but {world} processes on nodes of {local} leave one "
                "with fewer; start as many on each, or set 'all'"
            )
        names = ("replicate", "shard")
        return init_device_mesh(self.device.type, (world // local, local), mesh_dim_names=names)


def is_sharded(policy: nn.Module) -> bool:
    """Whether a policy came from `load_sharded`."""
    return isinstance(policy, FSDPModule)


def load_sharded(
    load: Callable[[bool], AnyPolicy], sharding: Sharding, wait: Callable[[], None]
) -> AnyPolicy:
    """Load a policy of which each process keeps its shard.

    The first process reads the weights to its host memory; the others build the policy without
    memory behind it, and get their shards from the first, tensor after tensor.

    Args:
        load: Makes the policy on the CPU; told whether its weights are to be left out.
        sharding: How it is spread, and where.
        wait: Holds a process until all have come so far; the first reads for a long time.

    Raises:
        InputError: an architecture that does not name its layers; and whatever `load` raises.
    """
    first = torch.distributed.get_rank() == 0
    policy = load(not first)
    weights: dict[str, Any] = dict(policy.state_dict()) if first else {}
    buffers = {name: buffer.clone() for name, buffer in policy.named_buffers()} if first else {}
    wait()
    nn.Module.to(policy, "meta")
    _tie(policy)
    _shard(policy, sharding)
    nn.Module.to_empty(policy, device="cpu" if sharding.offload else sharding.device)
    _tie(policy)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
    set_model_state_dict(policy, weights, options=options)
    _share_buffers(policy, buffers, sharding.device)
    return policy


def full_state_dict(policy: nn.Module, *, trained_only: bool) -> dict[str, Tensor]:
    """All of a sharded policy's weights, on the CPU of the first process; empty on the others.

    Every process has to call it.

    Args:
        policy: From `load_sharded`.
        trained_only: Leave frozen weights out.
    """
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only
    )
    weights: dict[str, Any] = get_model_state_dict(policy, options=options)
    tied = tied_names(policy)
    return {name: weight for name, weight in weights.items() if name not in tied}


def tied_names(policy: nn.Module) -> set[str]:
    """Names of parameters that are others by a second name, as in `state_dict`."""
    causal = causal_model(policy)
    prefix = next(f"{name}." if name else "" for name, m in policy.named_modules() if m is causal)
    tied: Mapping[str, str] = getattr(causal, "all_tied_weights_keys", None) or {}
    return {f"{prefix}{name}" for name in tied}


def _shard(policy: nn.Module, sharding: Sharding) -> None:
    causal = causal_model(policy)
    layers = set(causal._no_split_modules or ())
    units = [module for module in causal.modules() if type(module).__name__ in layers]
    if not units:
        raise InputError(
            f"{type(causal).__name__} does not name its layers, so it cannot be sharded; set "
            "system.shard to 'off'"
        )
    embedding: Any = causal.get_input_embeddings()
    if not tied_names(policy):
        units.append(embedding)
    precision = MixedPrecisionPolicy()
    if sharding.bfloat16:
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    offload = CPUOffloadPolicy(pin_memory=sharding.device.type == "cuda")
    settings: dict[str, Any] = {
        "mesh": sharding.mesh(),
        "mp_policy": precision,
        "offload_policy": offload if sharding.offload else OffloadPolicy(),
    }
    # What is frozen is bfloat16 already, on one device too, and so are the values that it begins.
    widen = sharding.bfloat16 and embedding.weight.dtype == torch.float32
    for unit in units:
        fully_shard(unit, reshard_after_forward=True, **settings)
    fully_shard(policy, reshard_after_forward=False, **settings)
    if widen:
        embedding.register_forward_hook(lambda _module, _inputs, output: output.float())


def _tie(policy: nn.Module) -> None:
    """`to` and `to_empty` give a weight with two names two memories."""
    causal_model(policy).tie_weights()


def _share_buffers(policy: nn.Module, buffers: dict[str, Tensor], device: torch.device) -> None:
    """Buffers are whole on every process; not all of them are in a state dict."""
    for name, buffer in sorted(policy.named_buffers()):
        here = buffers[name].to(device) if buffers else torch.empty_like(buffer, device=device)
        torch.distributed.broadcast(here, src=0)
        owner, _, own_name = name.rpartition(".")
        policy.get_submodule(owner)._buffers[own_name] = here
