"""The configurations for named GPUs: what their headers say, and that they use what there is.

TSPIN_RECORD=1 .venv/bin/pytest tests/unit/machine/test_presets.py    # write the headers anew
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.architectures import shape_named
from tspin.config import RunConfig, load_config
from tspin.machine.hardware import Gpu
from tspin.machine.needs import Machine, Needs, needs

CONFIGS = Path(__file__).parents[3] / "configs"
GIB = 2**30
PRESETS: dict[str, tuple[str, int, float]] = {
    "paper-mistral-7b": ("Mistral-7B", 8, 80e9),
    "paper-zephyr-7b": ("Mistral-7B", 8, 80e9),  # Zephyr's architecture is Mistral's.
    "llama-70b-lora": ("Llama-3.1-70B", 8, 80e9),
    "qlora-7b": ("Mistral-7B", 1, 24e9),
}
ROOM = 0.8
"""What the doctor calls a fit, and not a tight one."""


def outcome(name: str, **system: Any) -> Needs:
    model, count, memory = PRESETS[name]
    config = load_config(CONFIGS / f"{name}.yaml")
    config = config.model_copy(update={"system": config.system.model_copy(update=system)})
    gpu = Gpu("G", int(memory), int(memory), bfloat16=True)
    machine = Machine((gpu,) * count, host=10**15)
    return needs(shape_named(model, config.train.lora), config, machine)


def share_of_a_step(config: RunConfig, count: int) -> int:
    """Tokens that one GPU can have in a step, at most."""
    return config.train.global_batch_size // count * 3 * config.prompt.max_length


@pytest.mark.parametrize("name", PRESETS)
def test_its_header_says_what_the_estimate_does(name: str) -> None:
    path = CONFIGS / f"{name}.yaml"
    text, found = path.read_text(), outcome(name)
    assert found.host is not None
    figures = {
        r"about \S+ GiB( a GPU)? by": f"about {found.device[0] / GIB:.1f} GiB\\1 by",
        r"about \S+ GiB (of the host's|for all)": f"about {found.host.total / GIB:.0f} GiB \\1",
    }
    now = text
    for pattern, figure in figures.items():
        now = re.sub(pattern, figure, now)
    assert re.search(r"about [\d.]+ GiB( a GPU)? by", now)
    if os.environ.get("TSPIN_RECORD"):
        path.write_text(now)
        return
    assert text == now, "TSPIN_RECORD=1 pytest tests/unit/machine/test_presets.py writes it"


@pytest.mark.parametrize("name", PRESETS)
def test_it_fits_with_the_largest_passes_that_do(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    tokens = config.system.tokens_per_device
    assert outcome(name).fit(ROOM)
    assert tokens % 1024 == 0
    share = share_of_a_step(config, PRESETS[name][1])
    larger = outcome(name, tokens_per_device=tokens + 1024)
    assert tokens == share or (tokens < share and not larger.fit(ROOM))


def test_the_papers_setting_needs_sharding() -> None:
    assert not outcome("paper-mistral-7b", shard="off").fit()
    assert outcome("paper-mistral-7b", shard="auto") == outcome("paper-mistral-7b")
