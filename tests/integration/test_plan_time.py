"""The time that `tspin plan` names against the time that the run then takes."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from planned_runs import sections, write_data

from tspin.config import RunConfig
from tspin.planning.plan import plan_run
from tspin.planning.where import Target
from tspin.runs.clock import Clock
from tspin.selfplay import run

pytestmark = pytest.mark.bench


def test_a_plan_is_right_within_a_factor_of_one_and_a_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one thread that is the wall time of a machine without other work. On a busy one the wall
    # time of the plan's few seconds would say nothing of that of the run.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    # As configs/demo.yaml, on a quarter of its records, without the tasks of lm-eval.
    write_data(tmp_path, 256, 64)
    config = RunConfig.model_validate(
        sections(
            tmp_path,
            generate={"max_new_tokens": 96},
            train={"epochs": 1, "learning_rate": 1e-4, "global_batch_size": 16},
            system={
                "device": "cpu",
                "threads": 1,
                "tokens_per_device": 4096,
                "generate_batch_size": 64,
            },
        )
    )

    def planned() -> float:
        return plan_run(config, Target.of(config), utilisation=0.4).total().seconds

    before = planned()
    clock = Clock(tmp_path / "clock.json")
    run(config, timed=clock.running)
    # Measured on both sides, since other work takes a part of the caches, and of the clock's rate.
    seconds = math.sqrt(before * planned())
    real = sum(clock.seconds.values())
    told = f"planned {seconds:.1f} s, real {real:.1f} s: {clock.seconds}"
    assert 1 / 1.5 < seconds / real < 1.5, told
