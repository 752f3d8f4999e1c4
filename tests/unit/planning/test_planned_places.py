"""Where a planned run computes: GPUs by any name, this machine, the pools of a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.planning.devices import find_device
from tspin.planning.places import Place
from tspin.planning.where import Target
from tspin.plugins import PLACES, load_plugin
from tspin_pipelines.places import profile_places
from tspin_pipelines.profiles.profile import PROFILES, profile_names


@pytest.fixture(autouse=True)
def _no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tspin.planning.where.find_gpus", list)


def config(device: str = "auto", processes: int | str = "auto") -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "unused",
            "model": {"path": "unused"},
            "data": {"annotated": "unused"},
            "system": {"device": device, "num_processes": processes},
        }
    )


@pytest.mark.parametrize(
    ("name", "tera", "gib"),
    [
        ("h100", 989, 80),
        ("nvidia-h100-80gb", 989, 80),
        ("NVIDIA H100 80GB HBM3", 989, 80),
        ("NVIDIA H100 PCIe", 756, 80),
        ("NVIDIA H200", 989, 141),
        ("NVIDIA A100-SXM4-80GB", 312, 80),
        ("NVIDIA A100-SXM4-40GB", 312, 40),
        ("nvidia-tesla-a100", 312, 40),
        ("nvidia-a100-80gb", 312, 80),
        ("nvidia-l4", 121, 24),
        ("NVIDIA L40S", 362, 48),
        ("Tesla T4", 65, 16),
    ],
)
def test_a_gpu_is_known_by_any_of_its_names(name: str, tera: int, gib: int) -> None:
    device = find_device(name)
    assert (device.flops, device.memory) == (tera * 1e12, gib * 2**30)


def test_a_gpu_by_its_numbers() -> None:
    device = find_device("5e14,2e12,64e9")
    assert (device.flops, device.bandwidth, device.memory) == (5e14, 2e12, 64_000_000_000)


@pytest.mark.parametrize("name", ["h1000", "abacus", "1e12,2e12", "0,1,1", "1,-1,1", ""])
def test_an_unknown_gpu_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown GPU .* known are .*H100"):
        find_device(name)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_has_places_that_are_known(name: str) -> None:
    places = profile_places(name)
    assert [*places] == ["generate", "train", "evaluate"]
    target = Target.of(config(), places=places)
    known = [target.device_of(place) for place in places.values()]
    assert all(device is not None for device in known) or name == "cpu"
    assert target.measures == (name == "cpu")


def profile(folder: Path, **stages: dict[str, Any]) -> str:
    content = yaml.safe_load((PROFILES / "gke-h100.yaml").read_text())
    for name, values in stages.items():
        content["stages"][name] |= values
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_profile_names_prices_and_all_gpus_of_all_nodes(tmp_path: Path) -> None:
    path = profile(tmp_path, train={"price_per_gpu_hour": 2.5, "nodes": 2})
    places = load_plugin(PLACES, "profile")(path)
    assert places["train"] == Place("nvidia-h100-80gb", 16, 2.5)
    assert places["evaluate"] == Place("nvidia-h100-80gb", 1, None)


@pytest.mark.parametrize(
    ("stage", "price", "said"),
    [
        ("train", -1, "greater than or equal to 0"),
        ("light", 1, "price_per_gpu_hour stands beside no accelerator"),
    ],
)
def test_a_price_is_of_a_gpu(stage: str, price: float, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        profile_places(profile(tmp_path, **{stage: {"price_per_gpu_hour": price}}))


POOLED = {name: Place("nvidia-l4") for name in ("generate", "train", "evaluate")}


@pytest.mark.parametrize(
    ("device", "wishes", "said"),
    [
        ("cuda", {}, "torch sees no GPU here; name the one"),
        ("cpu", {"device": "h100"}, "system.device is 'cpu', and a GPU is named"),
        ("cpu", {"places": POOLED}, "system.device is 'cpu', and a GPU is named"),
        ("auto", {"gpus": 3}, "--gpus is how many of --device"),
        ("auto", {"device": "l4", "gpus": 3, "places": POOLED}, "a profile says its own"),
        ("auto", {"device": "l4", "measure": True}, "give one of the two"),
        ("auto", {"places": POOLED, "measure": True}, "give one of the two"),
        ("auto", {"device": "abacus"}, "unknown GPU 'abacus'"),
        ("auto", {"places": {**POOLED, "train": Place("abacus")}}, "unknown GPU 'abacus'"),
    ],
)
def test_wishes_that_cannot_be_met(device: str, wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Target.of(config(device), **wishes)


def test_a_name_stands_for_a_pool_that_is_not_known() -> None:
    places = {**POOLED, "train": Place("acme-accelerator", 4, 1.0)}
    target = Target.of(config(), places=places, device="1e15,1e12,1e11")
    device = target.device_of(places["train"])
    assert device is not None
    assert device.flops == 1e15


def test_without_a_gpu_this_machine_is_measured() -> None:
    target = Target.of(config("cpu", 2))
    assert target.measures
    assert {*target.places.values()} == {Place(None, 2)}
    assert not Target.of(config(), device="h100", gpus=8).measures
