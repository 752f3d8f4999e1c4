"""Which GPUs evaluations get beside the loop, and where they stay within it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.evaluations.places import Apart, apart, gpus_of_evaluations
from tspin.machine.hardware import Gpu, find_gpus

GIB = 2**30


def config(model: Path, **sections: Any) -> RunConfig:
    values = {
        "run_dir": "runs/r",
        "model": {"path": str(model)},
        "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
        "train": {"global_batch_size": 8},
    }
    return RunConfig.model_validate(values | sections)


def gpus(count: int, memory: int = 24 * GIB) -> list[Gpu]:
    return [Gpu("a GPU", memory, memory, bfloat16=True)] * count


def spared(settings: RunConfig, those: list[Gpu]) -> int:
    return gpus_of_evaluations(settings, those, 64 * GIB)


@pytest.mark.parametrize(("count", "own"), [(1, 0), (2, 1), (8, 1)])
def test_a_small_policy_gets_one_where_one_is_left(
    count: int, own: int, tiny_model_dir: Path
) -> None:
    assert spared(config(tiny_model_dir), gpus(count)) == own


def test_a_policy_gets_as_many_as_it_needs(tiny_model_dir: Path) -> None:
    # A GPU without room for a context of CUDA stands for a policy that one GPU cannot hold.
    large = gpus(8, GIB // 2)
    sharded = {"shard": "on"}
    assert spared(config(tiny_model_dir, system=sharded), large) in (0, 2)
    asked = config(tiny_model_dir, generate={"engine_args": {"tensor_parallel_size": 4}})
    assert spared(asked, gpus(8)) == 4
    assert spared(asked, gpus(7)) == 0


def test_the_training_keeps_what_it_needs(tiny_model_dir: Path) -> None:
    assert spared(config(tiny_model_dir, system={"num_processes": 8}), gpus(8)) == 0
    assert spared(config(tiny_model_dir, system={"num_processes": 7}), gpus(8)) == 1
    # Forward passes fit, a training does not.
    little = gpus(8, int(1.1 * GIB))
    assert spared(config(tiny_model_dir), little) == 0


def test_on_a_cpu_both_share_it_where_that_is_asked(tiny_model_dir: Path) -> None:
    cpu = {"device": "cpu"}
    assert apart(config(tiny_model_dir, system=cpu)) is None
    asked = config(tiny_model_dir, system=cpu | {"evaluate_beside": True})
    assert apart(asked) == Apart()
    nothing = asked.model_copy(update={"data": asked.data.model_copy(update={"heldout": None})})
    assert apart(nothing) is None


def test_a_process_of_torchrun_has_nothing_beside_it(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = config(tiny_model_dir, system={"evaluate_beside": True})
    with pytest.raises(InputError, match=r"system\.evaluate_beside is true, but torchrun"):
        apart(asked)
    assert apart(config(tiny_model_dir)) is None


def test_the_loop_sees_its_own_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    place = Apart({"CUDA_VISIBLE_DEVICES": "0,1,2"}, {"CUDA_VISIBLE_DEVICES": "3"})
    with place.taken():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("visible", "loop", "evaluations"),
    [(None, "0,1,2,3,4,5", "6,7"), ("9,8,7,6,5,4,3,2", "9,8,7,6,5,4", "3,2")],
)
def test_evaluations_get_the_last_gpus(
    visible: str | None,
    loop: str,
    evaluations: str,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr("tspin.evaluations.places._asked_elsewhere", lambda _: 2)
    expected = Apart({"CUDA_VISIBLE_DEVICES": loop}, {"CUDA_VISIBLE_DEVICES": evaluations})
    assert apart(config(tiny_model_dir, system={"evaluate_beside": True})) == expected
    assert apart(config(tiny_model_dir)) is None


def test_one_gpu_is_not_shared(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="is true, but there is 1 GPU here; set it to false"):
        apart(config(tiny_model_dir, system={"evaluate_beside": True}))


def test_the_gpus_are_asked_for_in_a_process_of_its_own(tiny_model_dir: Path) -> None:
    command = [sys.executable, "-m", "tspin.evaluations.places"]
    settings = config(tiny_model_dir).model_dump_json()
    told = warm.run([*command, settings], capture_output=True, text=True)
    assert int(told.stdout) == spared(config(tiny_model_dir), find_gpus()), told.stderr
