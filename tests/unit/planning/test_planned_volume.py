"""Checkpoints of a planned training, and memory where it decodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tspin.config import RunConfig
from tspin.planning.devices import find_device
from tspin.planning.sizes import Sizes
from tspin.planning.volume import checkpointing, decoding_memory, hardware_on
from tspin.planning.work import Work


def configuration(model: Path, **system: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "unused",
            "model": {"path": str(model)},
            "data": {"annotated": "unused"},
            "train": {"optimizer": "adamw"},
            "system": system,
        }
    )


@pytest.mark.parametrize(
    ("steps", "seconds", "minutes", "count"),
    [
        (0, 0, 15, 0),
        (99, 60, 15, 1),
        (101, 60, 15, 2),
        (101, 3 * 3600, 15, 12),
        (101, 3 * 3600, None, 2),
    ],
)
def test_checkpoints_by_steps_and_by_minutes(
    steps: int, seconds: float, minutes: float | None, count: int, tiny_model_dir: Path
) -> None:
    config = configuration(tiny_model_dir, checkpoint_minutes=minutes, checkpoints="s3://b/c")
    sizes = Sizes.of(config)
    size = 12 * sizes.shape.parameters + sizes.files
    kept = checkpointing(config, sizes, steps, seconds)
    assert (kept.count, kept.sent, kept.disk) == (count, count * size, min(count, 2) * size)
    here = config.system.model_copy(update={"checkpoints": None})
    config = config.model_copy(update={"system": here})
    assert checkpointing(config, sizes, steps, seconds).sent == 0


def test_memory_of_decoding_is_weights_and_caches(tiny_model_dir: Path) -> None:
    config = configuration(tiny_model_dir, device="auto")
    sizes = Sizes.of(config)
    work = Work(responses=10, prompt_tokens=300, generated_tokens=200)
    hardware = hardware_on(config, find_device("h100"), 8)
    assert (hardware.gpu, hardware.bfloat16, hardware.processes) == (True, True, 8)
    # Two layers, 2 of 4 heads of 8 numbers, keys and values, of 50 tokens; bfloat16.
    cache = 2 * 2 * 2 * 8 * 50
    assert decoding_memory(sizes, hardware, work, 4) == 2 * (sizes.shape.parameters + 4 * cache)
    assert not hardware_on(config, find_device("t4"), 1).bfloat16
    assert not hardware_on(config, None, 1).gpu
