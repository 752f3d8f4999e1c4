"""The tables of docs/guides/sizes.md are what the estimate says.

TSPIN_RECORD=1 .venv/bin/pytest tests/unit/machine/test_sizes.py    # write them anew
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.architectures import ARCHITECTURES, shape_named
from tspin.config import LoraConfig, RunConfig
from tspin.machine.host import host_memory
from tspin.machine.memory import Hardware, estimate_memory, largest_triplet, sharded
from tspin.models.shape import ModelShape

PAGE = Path(__file__).parents[3] / "docs/guides/sizes.md"
TABLE = re.compile(r"(<!-- (\w+) -->\n\n).*?(\n<!-- /\2 -->)", re.DOTALL)
GIB = 2**30
ROOM = 0.8
MOST = 49152
"""A pass as large as the share of a step of the paper's on 8 GPUs; larger ones gain nothing."""
METHODS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "LoRA": {"train": {"lora": {"r": 16}}},
    "QLoRA": {"train": {"lora": {"r": 16}}, "model": {"quantize": "nf4"}},
}
PLACES = {
    "1 x 24": (24e9, 1, 1),
    "1 x 80": (80e9, 1, 1),
    "2 x 80": (80e9, 2, 1),
    "4 x 80": (80e9, 4, 1),
    "8 x 80": (80e9, 8, 1),
    "2 x 8 x 80": (80e9, 8, 2),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "": {},
    " a": {"shard_over": "all"},
    " o": {"offload": True},
    " ao": {"shard_over": "all", "offload": True},
}


def settings_of(method: str, **system: Any) -> RunConfig:
    sections = METHODS[method]
    return RunConfig.model_validate(
        {
            "run_dir": "r",
            "data": {"annotated": "a"},
            "prompt": {"max_length": 2048},
            "train": sections.get("train", {}),
            "model": {"path": "m", "dtype": "bfloat16", **sections.get("model", {})},
            "system": {"gradient_checkpointing": True, **system},
        }
    )


def fitting(model: str, method: str, place: str) -> Iterator[tuple[str, RunConfig, Hardware]]:
    """What fits, with the letters of what was set for it, the cheapest first."""
    memory, processes, nodes = PLACES[place]
    whole = Hardware(gpu=True, bfloat16=True, processes=processes, nodes=nodes)
    shape = shape_of(model, method)
    for letters, system in SETTINGS.items():
        if (nodes == 1 and "a" in letters) or (processes == 1 and letters):
            continue
        for tokens in range(MOST, largest_triplet(settings_of(method)) - 1, -1024):
            config = settings_of(method, tokens_per_device=tokens, **system)
            hardware = sharded(shape, config, whole, int(memory))
            if estimate_memory(shape, config, hardware).total <= ROOM * memory:
                yield letters, config, hardware
                break


def shape_of(model: str, method: str) -> ModelShape:
    return shape_named(model, settings_of(method).train.lora or None)


def memory_cell(model: str, method: str, place: str) -> str:
    for letters, config, hardware in fitting(model, method, place):
        estimate = estimate_memory(shape_of(model, method), config, hardware)
        tokens = config.system.tokens_per_device // 1024
        return f"{estimate.total / GIB:.0f} ({tokens}k{letters})"
    return "no"


def host_cells(model: str, method: str) -> list[str]:
    """Unsharded, sharded, offloaded, on one node of 8."""
    shape, config = shape_of(model, method), settings_of(method)
    one = Hardware(gpu=True, bfloat16=True, processes=8)
    ways = [one, replace(one, shards=8), replace(one, shards=8, offloaded=True)]
    if config.model.quantize != "none":
        ways = ways[:1]
    cells = [f"{host_memory(shape, config, way).total / GIB:,.0f}" for way in ways]
    return [*cells, *["-"] * (3 - len(cells))]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def gpu_table() -> str:
    rows = [
        [model, method, *(memory_cell(model, method, place) for place in PLACES)]
        for model in ARCHITECTURES
        for method in METHODS
    ]
    return table(["model", "trained", *(f"{place} GB" for place in PLACES)], rows)


def host_table() -> str:
    models = ("Mistral-7B", "Qwen2.5-32B", "Llama-3.1-70B")
    rows = [[model, method, *host_cells(model, method)] for model in models for method in METHODS]
    return table(["model", "trained", "not sharded", "sharded", "sharded, offloaded"], rows)


def test_the_tables_are_what_the_estimate_says() -> None:
    text = PAGE.read_text()
    made = {"gpus": gpu_table, "host": host_table}
    assert [match[2] for match in TABLE.finditer(text)] == list(made)
    now = TABLE.sub(lambda match: match[1] + made[match[2]]() + match[3], text)
    if os.environ.get("TSPIN_RECORD"):
        PAGE.write_text(now)
        return
    assert text == now, "TSPIN_RECORD=1 pytest tests/unit/machine/test_sizes.py writes it"


def test_the_sizes_are_those_of_the_models() -> None:
    billions = {name: round(shape_named(name, None).parameters / 1e9, 2) for name in ARCHITECTURES}
    assert billions == {
        "Qwen2.5-0.5B": 0.49,
        "Llama-3.2-1B": 1.24,
        "Mistral-7B": 7.24,
        "Llama-3.1-8B": 8.03,
        "Qwen2.5-32B": 32.76,
        "Llama-3.1-70B": 70.55,
    }
    assert shape_named("Mistral-7B", LoraConfig()).adapter_parameters == 41_943_040
