"""How many processes make an evaluation, and what each sees of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from evaluations import config_of, write_heldout

from tspin.config import RunConfig
from tspin.evaluate.job import EvaluationJob
from tspin.evaluate.shards.processes import workers_wanted
from tspin.evaluate.shards.worker import _stand_alone
from tspin.generate.shards import WHOLE, Shard


def wanted(
    model: Path, folder: Path, shard: Shard = WHOLE, processes: int = 8, **evaluate: Any
) -> int:
    config: RunConfig = config_of(
        model,
        data={"annotated": "a.jsonl", "heldout": "h.jsonl"},
        evaluate=evaluate,
        system={"num_processes": processes, "generate_batch_size": 1},
    )
    heldout = write_heldout(folder / "heldout.jsonl", 22)  # Six blocks of four.
    job = EvaluationJob.of(config, str(model), heldout, None, -1, shard=shard)
    return workers_wanted(job, job.heldout())


def test_as_many_as_there_are_but_none_without_work(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wanted(tiny_model_dir, tmp_path, processes=1) == 1
    assert wanted(tiny_model_dir, tmp_path, processes=4) == 4
    assert wanted(tiny_model_dir, tmp_path) == 6
    assert wanted(tiny_model_dir, tmp_path, Shard(1, 4)) == 2
    assert wanted(tiny_model_dir, tmp_path, Shard(7, 8)) == 1
    spread = {"backend": "transformers", "vllm_args": {"tensor_parallel_size": 2}}
    assert wanted(tiny_model_dir, tmp_path, harness=spread) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert wanted(tiny_model_dir, tmp_path) == 1


def test_tasks_are_work_for_all(tiny_model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    assert wanted(tiny_model_dir, tmp_path, tasks=["anything"]) == 8


@pytest.mark.parametrize(
    ("visible", "own"), [(None, "1"), ("4,6", "6"), ("GPU-a,GPU-b", "GPU-b"), ("", ""), ("0", "0")]
)
def test_each_sees_one_gpu_and_no_group(
    visible: str | None, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/kept")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert _stand_alone() == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own
    assert not group.keys() & os.environ.keys()
    assert os.environ["TORCHELASTIC_ERROR_FILE"] == "/kept"
