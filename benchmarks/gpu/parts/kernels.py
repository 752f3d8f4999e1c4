"""Packed rows give what padded ones give, by each kernel: log-probabilities and gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import tspin.attention.interface as interface
from benchmarks.gpu.request import Publish, Request
from benchmarks.training.models import SPECIAL
from benchmarks.training.task import Task
from tspin.attention.gpu import flex_attention, has_varlen, varlen_attention
from tspin.attention.kernels import segment_attention
from tspin.config import ModelConfig
from tspin.forward.passes import ForwardPasses, on_device
from tspin.models.policy import Policy, load_policy
from tspin.tokens.packing import Prompted

__all__ = ["measure"]

Kernel = Callable[..., Tensor]

_ALLOWED = {"float32": 1e-4, "bfloat16": 0.1}
"""Nats times the root of a response's tokens, as `tspin.forward.passes` allows them."""
_ALLOWED_GRADIENT = 1e-3
"""Relative, in float32 alone: in bfloat16 the gradient of padded rows is as far from exact."""
_PADDING = SPECIAL.index("<pad>")


@dataclass(frozen=True)
class _Result:
    """Of all responses in one precision by one kind of pass."""

    logps: Tensor
    """(R,) nats."""
    gradient: list[Tensor] | None
    """Of the mean log-probability of a token; None where the kernel has none here."""
    seconds: float
    """Of a second forward and backward pass."""


def measure(request: Request, publish: Publish) -> None:
    """Compare each kernel with padded rows, in float32 and in the precision of training.

    Raises:
        RuntimeError: a difference is larger than rounding.
    """
    policy = _policy(request)
    task = Task(
        request.sizes.profiles[0],
        batch=request.sizes.compared,
        steps=1,
        model=request.sizes.model,
        folder=str(request.model),
    )
    prompted: list[Prompted] = [(row.prompt, row.responses) for row in task.triplets()]
    result: dict[str, Any] = {"responses": 3 * len(prompted), "precisions": {}}
    exact: Tensor | None = None
    for precision in dict.fromkeys(("float32", request.sizes.dtype)):
        padded = _padded(policy, prompted, precision)
        exact = padded.logps if exact is None else exact
        found: dict[str, dict[str, Any]] = {
            "padded": {"seconds": padded.seconds, **_off(padded, exact, prompted)}
        }
        result["precisions"][precision] = found
        for name, kernel in _kernels(policy, precision).items():
            packed = _packed(policy, prompted, precision, kernel)
            found[name] = _compared(packed, padded, exact, prompted)
            publish(result)
    _refuse_differences(result["precisions"])


def _policy(request: Request) -> Policy:
    config = ModelConfig(path=str(request.model), dtype=request.sizes.dtype)
    device = torch.device(request.sizes.device)
    return load_policy(config.path, config, device=device, trainable=True)


def _kernels(policy: Policy, precision: str) -> dict[str, Kernel]:
    """By name, what there is for this device and precision."""
    kernels: dict[str, Kernel] = {"flex": flex_attention, "segments": segment_attention}
    if policy.device.type == "cpu":
        # The kernel is for GPUs; what it is handed can be tried with a stand-in.
        return {"varlen": partial(varlen_attention, kernel=_varlen_by_sdpa), **kernels}
    config: Any = policy.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    query = torch.empty(1, width, device=policy.device, dtype=getattr(torch, precision))
    return {"varlen": varlen_attention, **kernels} if has_varlen(query) else kernels


@contextmanager
def _attending_by(kernel: Kernel) -> Iterator[None]:
    """Let packed rows be computed by this kernel and not by the one that would be chosen."""
    place: Any = interface
    chosen, calls = place.attend, 0

    def counted(*args: Any, **settings: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return kernel(*args, **settings)

    place.attend = counted
    try:
        yield
    finally:
        place.attend = chosen
    if not calls:
        raise RuntimeError("the packed passes did not attend by the kernel that was to be tried")


def _padded(policy: Policy, prompted: Sequence[Prompted], precision: str) -> _Result:
    passes = ForwardPasses(_PADDING)

    def run() -> Tensor:
        parts = [_run(policy, passes, [one], precision, len(prompted)) for one in prompted]
        return torch.cat(parts)

    return _timed(policy, run, differentiable=True)


def _packed(
    policy: Policy, prompted: Sequence[Prompted], precision: str, kernel: Kernel
) -> _Result:
    passes = replace(ForwardPasses(_PADDING), packed=True)
    # torch computes the backward pass of flex attention on a GPU only.
    differentiable = policy.device.type != "cpu" or kernel is not flex_attention
    with _attending_by(kernel), passes.on(policy), torch.set_grad_enabled(differentiable):
        return _timed(
            policy,
            lambda: _run(policy, passes, prompted, precision, 1),
            differentiable=differentiable,
        )


def _run(
    policy: Policy, passes: ForwardPasses, rows: Sequence[Prompted], precision: str, of: int
) -> Tensor:
    """One pass; adds to the gradients its share, one of so many."""
    batch = on_device(passes.batch(rows), policy.device)
    with torch.autocast(policy.device.type, torch.bfloat16, precision == "bfloat16"):
        logps, tokens = passes.logps(policy, batch)
    if torch.is_grad_enabled():
        ((logps / tokens).mean() / of).backward()  # type: ignore[no-untyped-call]
    return logps.detach()


def _timed(policy: Policy, run: Callable[[], Tensor], *, differentiable: bool) -> _Result:
    run()  # Compiles what is compiled.
    policy.zero_grad()
    began = _now(policy)
    logps = run()
    seconds = _now(policy) - began
    gradient = None
    if differentiable:
        gradient = [p.grad for p in policy.parameters() if p.grad is not None]
        policy.zero_grad()  # To None: the tensors above stay.
    return _Result(logps, gradient, seconds)


def _now(policy: Policy) -> float:
    if policy.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _off(result: _Result, exact: Tensor, prompted: Sequence[Prompted]) -> dict[str, float]:
    lengths = [len(response) for _, responses in prompted for response in responses]
    roots = torch.tensor(lengths, device=exact.device).sqrt()
    return {"off_float32": float(((result.logps - exact).abs() / roots).max())}


def _compared(
    packed: _Result, padded: _Result, exact: Tensor, prompted: Sequence[Prompted]
) -> dict[str, float | None]:
    """Differences per root of the number of tokens, in nats, the largest of all responses.

    Args:
        packed: By one kernel.
        padded: In the same precision.
        exact: Log-probabilities of padded rows in float32.
        prompted: What was computed.
    """
    return {
        "seconds": packed.seconds,
        "off_padded": _off(packed, padded.logps, prompted)["off_float32"],
        **_off(packed, exact, prompted),
        "gradient_off_padded": _relative(packed.gradient, padded.gradient),
    }


def _relative(ours: list[Tensor] | None, theirs: list[Tensor] | None) -> float | None:
    """Length of the difference over the length of the second."""
    if ours is None or theirs is None:
        return None
    pairs = list(zip(ours, theirs, strict=True))
    off = sum(float((one - other).double().square().sum()) for one, other in pairs)
    whole = sum(float(other.double().square().sum()) for _, other in pairs)
    return math.sqrt(off / whole)


def _refuse_differences(precisions: dict[str, dict[str, dict[str, Any]]]) -> None:
    wrong = [
        f"{kernel} in {precision}: {found}"
        for precision, kernels in precisions.items()
        for kernel, found in kernels.items()
        if kernel != "padded" and not _is_rounding(precision, found)
    ]
    if wrong:
        raise RuntimeError(f"packed rows differ from padded ones: {'; '.join(wrong)}")


def _is_rounding(precision: str, found: dict[str, Any]) -> bool:
    # In this form a NaN is too large as well.
    if not found["off_padded"] <= _ALLOWED[precision]:
        return False
    gradient = found["gradient_off_padded"]
    return precision != "float32" or gradient is None or gradient <= _ALLOWED_GRADIENT


def _varlen_by_sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_queries: Tensor,
    cu_keys: Tensor,
    *_: Any,
    **s: Any,
) -> Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` computes, sequence by sequence; no windows."""
    parts = []
    for n in range(len(cu_queries) - 1):
        q = query[cu_queries[n] : cu_queries[n + 1]].transpose(0, 1)[None]
        k, v = (x[cu_keys[n] : cu_keys[n + 1]].transpose(0, 1)[None] for x in (key, value))
        # The last query sees the last key.
        ahead = k.shape[2] - q.shape[2]
        sees = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(ahead)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=sees, scale=s["scale"], enable_gqa=s["enable_gqa"]
        )
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)
