"""Checkpoints as tests of their folder and of their making need them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["KEY", "write_checkpoint"]

KEY = {"inputs": {"triplets": "abc"}, "parameters": {"learning_rate": 1e-6}}
"""What work a folder of checkpoints belongs to."""


def write_checkpoint(folder: Path, step: int) -> Path:
    """What a trainer leaves, before it is marked."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in ("model.safetensors", "random-0.safetensors", "training_args.bin"):
        (made / name).write_bytes(b"bytes")
    return made
