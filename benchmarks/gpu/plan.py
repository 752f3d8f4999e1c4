"""What is measured at which size, in which order, and how long each part may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PARTS", "REAL", "TOY", "Part", "Sizes"]


@dataclass(frozen=True)
class Part:
    """One measurement; a module of `benchmarks.gpu.parts` that has its name."""

    name: str
    seconds: int
    """It is stopped after so many, with what it had published until then."""
    title: str
    gpus: int = 1
    """It needs at least so many."""


PARTS = (
    # Without it there is nothing to measure on.
    Part("prepare", 60, "Machine and model"),
    # From here on in the order of their worth: what the time does not reach is what matters least.
    Part("step", 190, "A training step beside TRL's"),
    Part("kernels", 100, "Packed rows against padded ones"),
    Part("memory", 70, "Peak memory against the estimate"),
    Part("resume", 90, "Killed and continued"),
    Part("sharding", 100, "DDP against sharded weights", gpus=2),
    Part("generation", 150, "vLLM, then training in the same process"),
    Part("longest", 120, "The longest pass"),
)


@dataclass(frozen=True)
class Sizes:
    """How much each part computes."""

    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    model: str
    """A name of `benchmarks.training.models.SHAPES`."""
    profiles: tuple[str, ...]
    """Lengths, names of `benchmarks.training.lengths.PROFILES`; the first one for all parts."""
    batch: int
    """Triplets an optimiser step."""
    steps: int
    """Of one training beside TRL's."""
    rounds: int
    matrix: int
    """Side of the matrices whose product says what the device can do."""
    compared: int
    """Triplets whose log-probabilities are compared."""
    memory_model: str
    memory_length: int
    """Tokens of each sequence where memory is measured: prompt.max_length."""
    memory_triplets: int
    """In one forward pass there."""
    killed_at: int
    """The step after which the training is killed; two more follow it."""
    checkpoint_steps: int
    prompts: int
    """Prompts to answer."""
    new_tokens: int
    grain: int
    """Triplets by which the longest pass grows."""
    limit_tokens: int | None
    """Packed tokens past which a pass counts as too long where no GPU runs out of memory."""


REAL = Sizes(
    device="cuda",
    dtype="bfloat16",
    model="0.5b",
    profiles=("ultrachat-like", "equal"),
    batch=8,
    steps=20,
    rounds=3,
    matrix=8192,
    compared=4,
    memory_model="0.5b",
    memory_length=1024,
    memory_triplets=3,
    killed_at=7,
    checkpoint_steps=5,
    prompts=1000,
    new_tokens=256,
    grain=4,
    limit_tokens=None,
)
"""Fits 24 GB; sized for twelve minutes on a GPU of 2022 or later, which nobody has timed yet."""

TOY = Sizes(
    device="cpu",
    dtype="float32",
    model="toy",
    profiles=("short",),
    batch=4,
    steps=2,
    rounds=1,
    matrix=512,
    compared=3,
    # Large enough to stand out from what Python itself takes.
    memory_model="20m",
    memory_length=64,
    memory_triplets=1,
    killed_at=4,
    checkpoint_steps=3,
    prompts=6,
    new_tokens=8,
    grain=1,
    limit_tokens=600,
)
"""Every line on a CPU; its figures mean nothing."""
