"""What a training process loads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tspin.train.process as process
from tspin.config import ModelConfig, RunConfig
from tspin.models.sharding import Sharding
from tspin.train.job import TrainJob


def test_a_frozen_base_is_read_in_the_precision_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read into the host's memory, which is no reason to read it twice as large."""
    config = RunConfig.model_validate(
        {
            "run_dir": "run",
            "model": {"path": "model"},
            "data": {"annotated": "annotated.jsonl"},
            "train": {"lora": {}},
        }
    )
    places = {name: Path(name) for name in ("triplets", "out", "checkpoints")}
    job = TrainJob(config=config, model="model", iteration=0, **places)
    loads: list[tuple[ModelConfig, torch.device]] = []

    def load_policy(model: str, config: ModelConfig, *, device: torch.device, **_: Any) -> None:
        loads.append((config, device))

    monkeypatch.setattr(process, "load_policy", load_policy)
    monkeypatch.setattr(process, "load_sharded", lambda load, *_: load(False))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    gpu: Any = SimpleNamespace(device=torch.device("cuda", 1))
    process._policy(job, gpu, Sharding(gpu.device, bfloat16=True))
    ((loaded, device),) = loads
    assert (loaded.dtype, device.type) == ("bfloat16", "cpu")
