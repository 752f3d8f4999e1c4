"""Peak memory of real trainings against what `tspin.machine.memory` estimates before they start."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.peak import Peak
from benchmarks.gpu.request import Publish, Request
from benchmarks.gpu.trainings import training_config, training_job
from benchmarks.training.models import SHAPES, SPECIAL, make_model, words
from tspin.config import RunConfig
from tspin.machine.memory import Hardware, estimate_memory
from tspin.models.shape import model_shape
from tspin.records.records import Message, Triplet, write_records
from tspin.train.step import train

__all__ = ["measure"]

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "all weights": {},
    "all weights, AdamW": {"train": {"optimizer": "adamw"}},
    "all weights, gradient checkpointing": {"system": {"gradient_checkpointing": True}},
    "LoRA": {"train": {"lora": {"r": 16, "alpha": 32}}},
}


def measure(request: Request, publish: Publish) -> None:
    """Train two steps of each case, all sequences nearly as long as they may be."""
    sizes, folder = request.sizes, Path(request.folder) / "memory"
    folder.mkdir()
    model = request.model
    if sizes.memory_model != sizes.model:
        model = folder / "model"
        make_model(sizes.memory_model, model, torch.float32)
    triplets = _write_full_triplets(folder / "triplets.jsonl", request)
    cases: dict[str, dict[str, Any]] = {}
    for name, sections in CASES.items():
        config = _config(request, model, sections)
        job = training_job(config, triplets, folder / name.replace(", ", "-"))
        peak = Peak(sizes.device)
        train(config, model=str(model), triplets=triplets, iteration=1, out=job.out)
        cases[name] = _compared(config, peak, sizes.device)
        shutil.rmtree(job.out.parent)
        publish({"model": sizes.memory_model, "cases": cases})


def _config(request: Request, model: Path, sections: dict[str, dict[str, Any]]) -> RunConfig:
    sizes = request.sizes
    count = sizes.memory_triplets
    own = {
        "train": {"global_batch_size": count},
        # One pass a step, which all of them fill.
        "system": {"tokens_per_device": 3 * count * (sizes.memory_length + 16)},
    }
    merged = {name: {**section, **sections.get(name, {})} for name, section in own.items()}
    return training_config(request, model, sizes.memory_length, **merged)


def _compared(config: RunConfig, peak: Peak, device: str) -> dict[str, Any]:
    bfloat16 = config.model.dtype == "bfloat16"
    hardware = Hardware(gpu=device == "cuda", bfloat16=bfloat16, processes=1)
    estimate = estimate_memory(model_shape(config.model, config.train.lora), config, hardware)
    bare = estimate.total - estimate.overhead
    return {
        "allocated_bytes": peak.allocated,
        "reserved_bytes": peak.reserved,
        # What torch allocates has neither the GPU's context nor fragments in it.
        "estimated_bytes": bare,
        "estimated_with_overhead_bytes": estimate.total,
        "estimated_over_allocated": bare / peak.allocated,
        "parts_bytes": estimate.parts(),
    }


def _write_full_triplets(path: Path, request: Request) -> Path:
    """Two steps of them: short prompts, so that there is nothing to gain by sharing them."""
    sizes = request.sizes
    names = range(len(SPECIAL), SHAPES[sizes.memory_model]["vocab_size"])

    def text(start: int) -> str:
        return words([names[(start + i) % len(names)] for i in range(sizes.memory_length - 8)])

    rows = (
        Triplet(
            id=f"record-{number}",
            messages=[Message(role="user", content=words([names[number]]))],
            annotated=text(3 * number),
            synthetic=text(3 * number + 1),
            proto_synthetic=text(3 * number + 2),
        )
        for number in range(2 * sizes.memory_triplets)
    )
    write_records(path, rows)
    return path
