"""When an evaluation shares a policy's weights; GPUs are numbers here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluations import config_of

from tspin.errors import InputError, TspinError
from tspin.evaluate.sharing import Findings, leading, sharing_processes
from tspin.records.estimate import Estimate

GIB = 2**30


@pytest.mark.parametrize(
    ("system", "gpus", "processes"),
    [
        ({"num_processes": 2}, [80 * GIB] * 2, 1),
        ({"num_processes": 2}, [80 * GIB, GIB], 2),  # A context alone takes 1 GiB.
        ({"num_processes": 2}, [], 1),  # Processes on a CPU have one memory together.
        ({"num_processes": 2, "shard": "on"}, [], 2),
        ({"num_processes": 2, "shard": "on"}, [80 * GIB] * 2, 2),
        ({"num_processes": 2, "shard": "off"}, [GIB] * 2, 1),
        ({"num_processes": 1, "shard": "on"}, [GIB], 1),
    ],
)
def test_weights_are_shared_where_they_do_not_fit(
    tiny_model_dir: Path, system: dict[str, Any], gpus: list[int], processes: int
) -> None:
    config = config_of(tiny_model_dir, system=system)
    assert sharing_processes(config, str(tiny_model_dir), gpus) == processes


@pytest.mark.parametrize("system", [{"num_processes": 1}, {"num_processes": 2, "shard": "off"}])
def test_weights_that_fit_no_gpu_and_are_not_shared_are_refused(
    tiny_model_dir: Path, system: dict[str, Any]
) -> None:
    config = config_of(tiny_model_dir, system=system)
    with pytest.raises(InputError, match=r"has to be whole.* Give system\.num_processes more"):
        sharing_processes(config, str(tiny_model_dir), [1000, 1000])


def test_four_bits_are_not_shared(tiny_model_dir: Path) -> None:
    config = config_of(tiny_model_dir, train={"lora": {}}, system={"num_processes": 2})
    model = config.model.model_copy(update={"quantize": "nf4"})
    config = config.model_copy(update={"model": model})
    assert sharing_processes(config, str(tiny_model_dir), [GIB]) == 1


def test_torchrun_has_to_start_as_many_as_are_asked_for(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    config = config_of(tiny_model_dir, system={"num_processes": 4})
    with pytest.raises(TspinError, match="asks for 4 training processes"), leading(config.system):
        pass
    # One alone has nobody to share with.
    monkeypatch.setenv("WORLD_SIZE", "1")
    with leading(config.system) as first:
        assert first


def test_findings_come_back_as_they_were() -> None:
    findings = Findings(
        logps=(-0.1 - 0.2, float("nan"), float("-inf")),
        temperature=1 / 3,
        fitted=Estimate(1 / 3, None, None, 7),
        halves=(0.1, 20.0),
    )
    again = Findings.model_validate_json(findings.model_dump_json())
    assert repr(again) == repr(findings)
