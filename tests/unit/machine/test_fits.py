"""Whether a run fits: the verdict against a GPU, against processes that share a CPU's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tspin.config import RunConfig
from tspin.machine import fit
from tspin.machine.check import Check, gib
from tspin.machine.fit import check_fit
from tspin.machine.hardware import Gpu
from tspin.machine.memory import Hardware, estimate_memory
from tspin.machine.needs import Machine, hardware_of, needs
from tspin.models.shape import model_shape

H100 = Gpu("H100", 80 * 2**30, 79 * 2**30, bfloat16=True)
T4 = Gpu("T4", 16 * 2**30, 15 * 2**30, bfloat16=False)


def memory_check(checks: list[Check]) -> Check:
    (found,) = [check for check in checks if check.name == "memory for training"]
    return found


def run_config(folder: Path, base: Path, **sections: object) -> RunConfig:
    values: dict[str, object] = {
        "run_dir": str(folder / "run"),
        "model": {"path": str(base)},
        "data": {"annotated": "unused"},
        "prompt": {"max_length": 64},
        "generate": {"max_new_tokens": 32},
    }
    return RunConfig.model_validate({**values, **sections})


def test_the_verdict_against_a_gpu(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = run_config(tmp_path, tiny_model_dir, system={"device": "auto"})
    shape = model_shape(settings.model, None)
    needed = estimate_memory(shape, settings, hardware_of(settings, [H100])).total
    for free, status, verdict in (
        (needed * 2, "ok", "fits: about"),
        (needed, "warn", "tight: about"),
        (needed - 1, "fail", "does not fit: about"),
    ):
        gpu = Gpu("G", 2 * needed, free, bfloat16=True)
        check = memory_check(check_fit(settings, [gpu]))
        assert (check.status, check.detail[: len(verdict)]) == (status, verdict)
        assert "on the GPU" in check.detail


def test_processes_on_a_cpu_share_its_memory(tmp_path: Path, tiny_model_dir: Path) -> None:
    alone, four = (
        run_config(tmp_path, tiny_model_dir, system={"device": "cpu", "num_processes": number})
        for number in (1, 4)
    )
    shape = model_shape(alone.model, None)
    one = estimate_memory(shape, four, hardware_of(four, [])).total
    detail = memory_check(check_fit(four, [])).detail
    assert f"about {gib(4 * one)} at the peak on 4 processes together" in detail
    assert "at the peak on the CPU" in memory_check(check_fit(alone, [])).detail


@pytest.mark.parametrize(
    ("gpus", "system", "dtype", "hardware"),
    [
        ([], {}, "auto", Hardware(gpu=False, bfloat16=False, processes=1)),
        ([], {"num_processes": 3}, "auto", Hardware(gpu=False, bfloat16=False, processes=3)),
        ([H100, H100], {}, "auto", Hardware(gpu=True, bfloat16=True, processes=2)),
        ([H100], {}, "float32", Hardware(gpu=True, bfloat16=False, processes=1)),
        ([T4], {}, "auto", Hardware(gpu=True, bfloat16=False, processes=1)),
        ([H100], {"device": "cpu"}, "auto", Hardware(gpu=False, bfloat16=False, processes=1)),
        ([], {"device": "cuda"}, "auto", Hardware(gpu=True, bfloat16=True, processes=1)),
        ([], {}, "bfloat16", Hardware(gpu=False, bfloat16=True, processes=1)),
    ],
)
def test_what_training_would_run_on(
    tmp_path: Path, gpus: list[Gpu], system: dict[str, object], dtype: str, hardware: Hardware
) -> None:
    model = {"path": "m", "dtype": dtype}
    settings = run_config(tmp_path, tmp_path, model=model, system=system)
    assert hardware_of(settings, gpus) == hardware


def test_the_hosts_memory_counts_where_gpus_train(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run_config(tmp_path, tiny_model_dir, system={"shard": "off"})
    shape = model_shape(settings.model, None)
    whole = 2 * 2 * 2**30 + 2 * 4 * shape.parameters
    for available, status in ((2 * whole, "ok"), (whole, "warn"), (whole - 1, "fail")):
        monkeypatch.setattr(fit, "available_memory", lambda there=available: (there, there))
        checks = {check.name: check for check in check_fit(settings, [H100, H100])}
        host = checks["memory of the host"]
        assert host.status == status
        assert f"about {gib(whole)} of the host's, {gib(available)} available" in host.detail
        assert checks["memory for training"].status == "ok"
    # One process less that reads the weights is all that is missing.
    assert "; it fits, tightly, with --set system.shard=on (about " in host.detail
    assert "memory of the host" not in {check.name for check in check_fit(settings, [])}


def test_sharded_weights_are_said_to_be(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = run_config(tmp_path, tiny_model_dir, system={"shard": "on"})
    detail = memory_check(check_fit(settings, [H100, H100])).detail
    assert "on each GPU, weights sharded over 2" in detail


def test_auto_goes_by_all_of_a_gpus_memory(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = run_config(tmp_path, tiny_model_dir)
    shape = model_shape(settings.model, None)
    needed = estimate_memory(shape, settings, hardware_of(settings, [H100, H100])).total
    for total, shards in ((needed, 1), (needed - 1, 2)):
        gpu = Gpu("G", total, 0, bfloat16=True)
        machine = Machine((gpu, gpu), host=2**40)
        assert needs(shape, settings, machine).hardware.shards == shards
    # On a CPU each process has its share of what is available.
    settings = run_config(tmp_path, tiny_model_dir, system={"num_processes": 2})
    needed = estimate_memory(shape, settings, hardware_of(settings, [])).total
    for available, shards in ((2 * needed, 1), (2 * needed - 2, 2)):
        outcome = needs(shape, settings, Machine((), available))
        assert outcome.hardware.shards == shards
        assert outcome.host is None
