"""Models and their metrics as a registry takes them, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tspin.files import write_json
from tspin.records.manifest import Manifest, content_hash, write_manifest
from tspin.registry import Record, promote

METRIC = "exact_match/exact/greedy"


def make_model(folder: Path, seed: int) -> Path:
    """A folder with weights and a configuration."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    save_file({"weight": torch.randn(64, generator=generator)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def make_adapter(folder: Path, seed: int, base: str, **adapter: Any) -> Path:
    """A LoRA adapter's folder, with a chat template and settings of its own."""
    make_model(folder, seed)
    (folder / "config.json").unlink()
    described = {"peft_type": "LORA", "r": 24, "base_model_name_or_path": base, **adapter}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    settings = {"eos_token_id": [1, 2], "top_p": 0.8, "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def make_metrics(
    path: Path,
    model: Path,
    value: float,
    *,
    heldout: str = "h",
    temperature: float | None = None,
    engine: str | None = None,
    n: int = 400,
    **parameters: Any,
) -> Path:
    """metrics.json of a model, with an interval of 0.02 to each side."""
    estimate = {"value": value, "low": value - 0.02, "high": value + 0.02, "n": n}
    metrics = {METRIC: estimate, "nll_per_token": {**estimate, "value": 1 - value}}
    if temperature is not None:
        metrics["temperature/fitted"] = {**estimate, "value": temperature}
    write_json(path, {"iteration": 0, "metrics": metrics})
    wanted = Manifest(
        kind="metrics",
        model=content_hash(model),
        inputs={"annotated": heldout},
        engine=engine,
        parameters=parameters,
    )
    write_manifest(path, wanted)
    return path


def make_candidate(folder: Path, seed: int, value: float) -> tuple[Path, Path]:
    """A model and its metrics."""
    model = make_model(folder / "model", seed)
    return model, make_metrics(folder / "metrics.json", model, value)


def promote_candidate(folder: Path, number: int, registry: str, **given: str) -> Record:
    """Promote the n-th candidate, each better than the one before; made where it is not there."""
    if not folder.exists():
        make_candidate(folder, number, 0.1 * number)
    return promote(
        folder / "model",
        metrics=folder / "metrics.json",
        registry=registry,
        metric=METRIC,
        direction="max",
        by="someone",
        **given,
    )
