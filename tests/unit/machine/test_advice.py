"""Which settings the doctor names for a 7B on machines of several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from tspin.config import RunConfig
from tspin.machine.advice import advice
from tspin.machine.hardware import Gpu
from tspin.machine.host import host_memory
from tspin.machine.memory import Hardware, estimate_memory
from tspin.machine.needs import Machine, needs
from tspin.models.shape import model_shape

GIB = 2**30
PLAIN = {"shard": "off", "tokens_per_device": 12288}
CHECKPOINTED = {**PLAIN, "gradient_checkpointing": True}
LARGE_PASSES = {"shard": "on", "gradient_checkpointing": True, "tokens_per_device": 49152}


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sizes of Mistral-7B, and no weights."""
    folder = tmp_path_factory.mktemp("mistral")
    AutoConfig.for_model("mistral").save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def run_config(model: Path, quantize: str = "none", **sections: Any) -> RunConfig:
    values = {
        "run_dir": "r",
        "model": {"path": str(model), "dtype": "bfloat16", "quantize": quantize},
        "data": {"annotated": "a"},
        "prompt": {"max_length": 2048},
        **sections,
    }
    return RunConfig.model_validate(values)


def machine(count: int, gpu: float, host: int) -> Machine:
    size = int(gpu * GIB)
    return Machine((Gpu("G", size, size, bfloat16=True),) * count, host * GIB)


@pytest.mark.parametrize(
    ("system", "place", "settings"),
    [
        (PLAIN, (8, 300, 100), "system.shard=on"),
        (PLAIN, (8, 150, 1000), "system.shard=on"),
        (PLAIN, (8, 40, 1000), "system.shard=on system.gradient_checkpointing=true"),
        (LARGE_PASSES, (8, 40, 1000), "system.tokens_per_device=21504"),
        (CHECKPOINTED, (2, 30, 1000), "system.shard=on system.offload=true"),
        (CHECKPOINTED, (1, 74.5, 1000), "train.lora.r=16"),
        (CHECKPOINTED, (1, 16, 1000), "train.lora.r=16 model.quantize=nf4"),
    ],
)
def test_the_cheapest_settings_that_fit_are_named(
    mistral: Path, system: dict[str, Any], place: tuple[int, float, int], settings: str
) -> None:
    config = run_config(mistral, system=system)
    shape = model_shape(config.model, None)
    here = machine(*place)
    assert not needs(shape, config, here).fit(0.8)
    text = advice(shape, config, here)
    listed = " ".join(f"--set {setting}" for setting in settings.split())
    assert text.startswith(f"it fits with {listed} (about ")


def test_a_teacher_is_sharded_with_its_policy(mistral: Path) -> None:
    config = run_config(mistral, system=PLAIN, train={"method": "sdft"})
    text = advice(model_shape(config.model, None), config, machine(8, 150, 1000))
    assert text.startswith("it fits with --set system.shard=on (about ")


def test_a_tight_fit_of_all_weights_comes_before_an_adapter_with_room(mistral: Path) -> None:
    smallest = {**CHECKPOINTED, "tokens_per_device": 6144, "logps_chunk_size": 256}
    config = run_config(mistral, system=smallest)
    shape = model_shape(config.model, None)
    sharded = run_config(mistral, system={**smallest, "shard": "on"})
    needed = needs(shape, sharded, machine(8, 80, 1000)).device[0] / GIB
    # The host has no room to offload to.
    text = advice(shape, config, machine(8, needed, 60))
    assert text.startswith("it fits, tightly, with --set system.shard=on (about ")
    text = advice(shape, config, machine(8, needed / 0.79, 60))
    assert text.startswith("it fits with --set system.shard=on (about ")


def test_what_nothing_makes_fit(mistral: Path) -> None:
    config = run_config(mistral)
    shape = model_shape(config.model, None)
    assert advice(shape, config, machine(1, 4, 1000)).startswith("nothing that can be set here")


def test_the_host_holds_what_is_read_and_what_is_offloaded(mistral: Path) -> None:
    config = run_config(mistral)
    shape = model_shape(config.model, None)

    def host(settings: RunConfig = config, **changes: Any) -> int:
        of = model_shape(settings.model, settings.train.lora)
        hardware = Hardware(gpu=True, bfloat16=True, processes=8, **changes)
        return host_memory(of, settings, hardware).total - 8 * 2 * GIB

    whole = 4 * shape.parameters
    assert (host(), host(shards=8)) == (8 * whole, whole)
    # Weights, gradients and mean squares of all eight shards, and the whole weights once.
    assert host(shards=8, offloaded=True) == pytest.approx(4 * whole, rel=1e-6)
    # Of two nodes each has half of them.
    assert host(shards=16, nodes=2, offloaded=True) == pytest.approx(2.5 * whole, rel=1e-6)
    adapted = run_config(mistral, train={"lora": {}})
    adapter = model_shape(adapted.model, adapted.train.lora).adapter_parameters
    assert host(adapted) == 8 * (2 * shape.parameters + 4 * adapter)
    assert host(run_config(mistral, "nf4", train={"lora": {}})) == 0
    one = Hardware(gpu=True, bfloat16=True, processes=1)
    assert estimate_memory(shape, config, one).weights == whole
