"""A sharded policy by itself: how exact it is, how much memory it takes, and how it fails."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from sharded_runs import risen, train_all
from test_architectures import build
from tiny_models import make_batch
from torch import Tensor
from training_runs import finish, make_job, start, wait_for, write_triplets
from transformers import PreTrainedTokenizerFast

from tests import warm
from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.forward.logprobs import response_logps
from tspin.models.policy import load_policy
from tspin.models.sharding import Sharding, load_sharded
from tspin.processes.group import refuse_other_disks, wait_for_all
from tspin.train.job import TrainJob

pytestmark = [pytest.mark.integration, pytest.mark.long]

CPU = torch.device("cpu")


def join(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=Path(rendezvous).as_uri(), rank=rank, world_size=2
    )


def logps_of(policy: torch.nn.Module, *, autocast: bool) -> Tensor:
    batch = make_batch(rows=24, length=120)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, autocast):
        return response_logps(policy, batch, chunk_size=64)[0].double()


def errors_of_one(rank: int, rendezvous: str, model: str) -> None:
    """Leave what sums of log-probabilities are off by, against float64."""
    join(rank, rendezvous)
    config = ModelConfig(path=model, dtype="bfloat16")

    def load(*, empty: bool = False) -> torch.nn.Module:
        return load_policy(model, config, device=CPU, trainable=True, empty=empty)

    whole = load()
    exact = logps_of(load().double(), autocast=False)
    sharded = load_sharded(
        lambda empty: load(empty=empty), Sharding(CPU, bfloat16=True), wait_for_all
    )
    errors = {
        "autocast": (logps_of(whole, autocast=True) - exact).square().mean().sqrt().item(),
        "sharded": (logps_of(sharded, autocast=True) - exact).square().mean().sqrt().item(),
    }
    if rank == 0:
        Path(f"{rendezvous}.json").write_text(json.dumps(errors))


def test_log_probabilities_are_as_exact_as_under_autocast(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    deep = build("llama", {"num_hidden_layers": 16, "hidden_size": 64, "initializer_range": 0.08})
    with torch.no_grad():
        # As in trained models, each layer adds little to what is there: what that loses shows.
        deep.get_input_embeddings().weight *= 20
    deep.save_pretrained(tmp_path / "model")
    rendezvous = tmp_path / "rendezvous"
    warm.spawn(errors_of_one, str(rendezvous), str(tmp_path / "model"), processes=2)
    errors = json.loads(rendezvous.with_suffix(".json").read_text())
    assert errors["sharded"] < 1.3 * errors["autocast"]


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_sharded_process_holds_half_of_the_weights(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks go back at once, so that what is resident is what is in use.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8}
    sizes |= {"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64}
    model = build("llama", sizes | {"vocab_size": len(tiny_tokenizer)})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layer = sum(parameter.numel() for parameter in model.model.layers[0].parameters())
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    del model
    write_triplets(tmp_path / "triplets.jsonl", 4)
    ddp, sharded = (
        make_job(
            tmp_path,
            tmp_path / "model",
            f"shard-{shard}",
            epochs=2,
            system={"num_processes": "auto", "shard": shard, "checkpoint_steps": 500},
        )
        for shard in ("off", "on")
    )
    train_all(2, [ddp, sharded])
    # Float32: weights, gradients, mean squares, and with DDP the buckets they are summed in.
    # Sharded, half of the first three, and a layer four times, as it is gathered and summed.
    expected = 16 * parameters - (6 * parameters + 16 * layer)
    for rank in range(2):
        saved = risen(ddp, rank) - risen(sharded, rank)
        assert 0.8 < saved / expected < 1.3


def look_for_a_mark(rank: int, rendezvous: str, folder: str) -> None:
    """Two machines whose folders have one name: each sees another."""
    join(rank, rendezvous)
    refuse_other_disks(Path(folder))
    own = Path(folder) / str(rank)
    own.mkdir()
    with pytest.raises(InputError) as refused:
        refuse_other_disks(own)
    Path(f"{rendezvous}-{rank}").write_text(str(refused.value))


def test_disks_that_are_not_shared_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    rendezvous = tmp_path / "rendezvous"
    warm.spawn(look_for_a_mark, str(rendezvous), str(folder), processes=2)
    for rank in range(2):
        told = Path(f"{rendezvous}-{rank}").read_text()
        assert told.startswith(f"{folder / str(rank)}: not all training processes see the same")
    # What the processes look for is gone again, in all folders.
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.fixture
def job(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> TrainJob:
    """A long training in two processes, as the command line starts them."""
    monkeypatch.setattr(sys, "executable", warm.python())
    write_triplets(tmp_path / "triplets.jsonl")
    system = {"num_processes": 2, "shard": "on", "checkpoint_steps": 2}
    return make_job(tmp_path, tiny_model_dir, epochs=8, system=system)


@pytest.mark.parametrize("target", ["one", "all"])
def test_killed_processes_are_continued(job: TrainJob, target: str) -> None:
    process = start(job)
    wait_for(process, lambda: any(job.checkpoints.glob("checkpoint-*/complete.json")))
    workers = [
        worker
        for worker in psutil.Process(process.pid).children(recursive=True)
        if "tspin.train.worker" in worker.cmdline()
    ]
    assert len(workers) == 2
    killed = [workers[1]] if target == "one" else [psutil.Process(process.pid), *workers]
    for one in killed:
        one.kill()
    printed = finish(process)
    assert process.returncode != 0
    if target == "one":
        assert "training process 1 was killed (SIGKILL)" in printed
    psutil.wait_procs(workers)
    assert not job.out.exists()
    process = start(job)
    printed = finish(process)
    assert process.returncode == 0, printed
    whole = job.model_copy(
        update={
            "out": job.out.parent / "whole/model",
            "checkpoints": job.out.parent / "whole.checkpoints",
        }
    )
    process = start(whole)
    finish(process)
    for file in ("model/model.safetensors", "train_log.jsonl"):
        ours, theirs = (one.out.parent / file for one in (job, whole))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_first_process_that_fails_ends_all(job: TrainJob, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(job.model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    # The weights are looked at by the process that reads them, while the other one waits.
    process = start(make_job(tmp_path, broken, system=job.config.system.model_dump()))
    printed = finish(process)
    assert process.returncode != 0
    assert "the safetensors files lack 1 weights" in printed
    assert "model.norm.weight" in printed
