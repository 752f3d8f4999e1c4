"""Training with weights spread over processes (FSDP2; gloo on the CPU) beside DDP."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from sharded_runs import held, train_all
from training_runs import make_job, write_triplets

pytestmark = pytest.mark.integration

SHARDED = {"num_processes": 2, "tokens_per_device": 60, "shard": "on"}
DDP = SHARDED | {"shard": "off"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    write_triplets(made / "triplets.jsonl")
    return made


def test_first(folder: Path, tiny_model_dir: Path) -> None:
    pair = [
        make_job(folder, tiny_model_dir, name, system=system, epochs=4)
        for name, system in (("ddp", DDP), ("sharded", SHARDED))
    ]
    train_all(2, pair, exchange="step")
    print(held(pair[0], 0), held(pair[1], 0), held(pair[1], 1))
    print([p.name for p in pair[1].out.iterdir()])
    a, b = (load_file(job.out / "model.safetensors") for job in pair)
    assert a.keys() == b.keys()
    for n in a:
        assert (a[n] == b[n]).all(), (n, (a[n] - b[n]).abs().max())
    assert (pair[0].out.parent / "train_log.jsonl").read_text() == (
        pair[1].out.parent / "train_log.jsonl"
    ).read_text()
