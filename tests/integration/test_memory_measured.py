"""The estimate of training memory against what real trainings take."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import warm

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

ROOT = Path(__file__).parents[2]

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
GPT2 = {"model_type": "gpt2", "n_embd": 256, "n_layer": 3, "n_head": 4, "n_positions": 256}

SPECS: dict[str, dict[str, Any]] = {
    "llama, full": {"architecture": LLAMA},
    "llama, LoRA, checkpointing": {
        "architecture": LLAMA,
        "train": {"lora": {"r": 4}},
        "system": {"gradient_checkpointing": True},
    },
    "gpt2, bfloat16, AdamW": {
        "architecture": GPT2,
        "batch": 2,
        "dtype": "bfloat16",
        "train": {"optimizer": "adamw"},
    },
}


# Most CPUs compute in bfloat16 a minute where float32 takes seconds: with the benchmarks.
SLOW = pytest.param("gpt2, bfloat16, AdamW", marks=pytest.mark.bench)


@pytest.mark.parametrize("name", [*(name for name in SPECS if name != SLOW.values[0]), SLOW])
def test_the_estimate_is_between_four_fifths_and_seven_fifths_of_the_peak(
    tmp_path: Path, tiny_model_dir: Path, name: str
) -> None:
    spec = {"batch": 4, "max_length": 256, **SPECS[name]}
    # Blocks go back at once, so that what is resident is what is in use.
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "OMP_NUM_THREADS": "1",
    }
    # What is measured is the rise: what was imported before it does not count.
    command = [sys.executable, "-m", "tests.training_peak", json.dumps(spec)]
    done = warm.run(
        [*command, str(tiny_model_dir), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["measured"] > 50 * 2**20  # Something to measure.
    assert 0.8 < result["estimated"] / result["measured"] < 1.4, result
