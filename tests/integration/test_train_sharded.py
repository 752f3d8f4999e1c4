"""Training with weights spread over processes (FSDP2; gloo on the CPU) beside DDP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sharded_runs import held, train_all
from test_architectures import MOE, build
from test_packed_architectures import MIXED
from training_runs import make_job, write_triplets
from transformers import PreTrainedTokenizerFast

from tspin.records.training_log import read_train_log
from tspin.train.job import TrainJob

pytestmark = [pytest.mark.integration, pytest.mark.long]

LORA = {"r": 4, "alpha": 8, "target_modules": "all-linear"}
# The default's words are too many here.
TAUGHT = {"method": "sdft", "sdft_template": "{prompt} {demonstration}"}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {"tie_word_embeddings": True}),
    "experts": ("qwen3_moe", MOE | {"moe_intermediate_size": 8}),
    "windowed": ("gemma3_text", MIXED),
    "padded": ("gemma2", {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sharded")
    write_triplets(made / "triplets.jsonl")
    return made


@pytest.fixture(scope="module")
def models(
    folder: Path, tiny_model_dir: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> dict[str, Path]:
    """By name, a small model of each kind that is sharded in its own way."""
    paths = {"plain": tiny_model_dir}
    for name, (kind, settings) in ARCHITECTURES.items():
        model = build(kind, settings | {"vocab_size": len(tiny_tokenizer)})
        paths[name] = folder / f"{name}-model"
        model.save_pretrained(paths[name])
        tiny_tokenizer.save_pretrained(paths[name])
    return paths


def job_of(folder: Path, model: Path, name: str, **settings: Any) -> TrainJob:
    """Ten steps or so, of several passes each."""
    asked = settings.pop("system", {})
    system = {"num_processes": "auto", "tokens_per_device": 60, "checkpoint_steps": 500} | asked
    return make_job(folder, model, name, system=system, **{"epochs": 4, **settings})


def weights(job: TrainJob) -> dict[str, Any]:
    adapter = job.out / "adapter_model.safetensors"
    return load_file(adapter if adapter.is_file() else job.out / "model.safetensors")


def rows(job: TrainJob) -> list[dict[str, Any]]:
    """The training's log without the norm of the gradient, whose parts are added in any order."""
    log = read_train_log(job.out.parent / "train_log.jsonl")
    return [{k: v for k, v in row.items() if k != "grad_norm"} for row in log]


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("plain", {}),
    "adapter": ("plain", {"lora": LORA | {"dropout": 0.1}}),
    "tied": ("tied", {}),
    "experts": ("experts", {}),
    "windowed": ("windowed", {}),
    "padded": ("padded", {}),
    "checkpointed": ("plain", {"system": {"gradient_checkpointing": True}}),
    "offloaded": ("plain", {"system": {"offload": True}}),
    "chunked": ("plain", {"system": {"logps_chunk_size": 3}}),
    # 11 passes of the reference policy: one process makes one more than the other.
    "reference": ("plain", {"method": "tspin_ref", "system": {"tokens_per_device": 1}}),
    "spin": ("plain", {"method": "spin", "global_batch_size": 5}),
    "sft": ("plain", {"method": "sft", "global_batch_size": 5}),
    "taught": ("plain", TAUGHT),
    "taught-adapter": ("plain", TAUGHT | {"lora": LORA | {"dropout": 0.1}}),
    "taught-tied": ("tied", TAUGHT | {"system": {"gradient_checkpointing": True}}),
}


@pytest.fixture(scope="module")
def pairs(folder: Path, models: dict[str, Path]) -> dict[str, tuple[TrainJob, TrainJob]]:
    """Each case trained by two processes, with DDP and sharded."""
    jobs = {}
    for name, (model, settings) in CASES.items():
        own = {**settings}
        system = own.pop("system", {})
        jobs[name] = tuple(
            job_of(
                folder, models[model], f"{name}-{shard}", system=system | {"shard": shard}, **own
            )
            for shard in ("off", "on")
        )
    train_all(2, [job for pair in jobs.values() for job in pair], exchange="step")
    return jobs


@pytest.mark.parametrize("name", CASES)
def test_sharded_is_ddp_bit_for_bit(name: str, pairs: dict[str, tuple[TrainJob, TrainJob]]) -> None:
    ddp, sharded = pairs[name]
    for rank in range(2):
        whole, part = held(ddp, rank), held(sharded, rank)
        assert (whole["sharded"], whole["here"]) == (0, whole["all"])
        assert part["sharded"] == part["tensors"] == whole["tensors"]
        assert part["all"] == whole["all"]
        # All tensors here have an even number of rows.
        assert part["here"] == part["all"] // 2
    ours, theirs = weights(sharded), weights(ddp)
    assert ours.keys() == theirs.keys()
    for key, weight in theirs.items():
        assert bool((ours[key] == weight).all()), key
    assert len(rows(ddp)) >= 10
    assert rows(sharded) == rows(ddp)
    names = [sorted(path.name for path in job.out.iterdir()) for job in (ddp, sharded)]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def alone(folder: Path, models: dict[str, Path]) -> TrainJob:
    """The whole training in one process."""
    job = job_of(folder, models["plain"], "alone", **CLIPPED)
    train_all(1, [job])
    return job


CLIPPED = {"optimizer": "adamw", "max_grad_norm": 1.0}


def close(job: TrainJob, other: TrainJob) -> float:
    """The largest difference of two models' weights."""
    ours, theirs = weights(job), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[key] - theirs[key]).abs().max()) for key in theirs)


def test_sharded_is_one_process(folder: Path, models: dict[str, Path], alone: TrainJob) -> None:
    # As on a GPU: gradients are added up after every pass. The weights move by 0.01.
    jobs = [
        job_of(folder, models["plain"], f"every-pass-{shard}", system={"shard": shard}, **CLIPPED)
        for shard in ("on", "off")
    ]
    train_all(2, jobs)
    for job in jobs:
        assert close(job, alone) < 1e-6
        for row, other in zip(rows(job), rows(alone), strict=True):
            assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_a_killed_training_goes_on_with_any_number_of_processes(
    folder: Path, models: dict[str, Path], alone: TrainJob
) -> None:
    def job(name: str, shard: str, **settings: Any) -> TrainJob:
        system = {"shard": shard, "checkpoint_steps": 2}
        return job_of(folder, models["plain"], name, system=system, **settings)

    lora = {"lora": LORA | {"dropout": 0.1}}
    kinds = {"all": CLIPPED, "adapter": lora, "taught": TAUGHT}
    whole, again = (
        [job(f"{name}-{kind}", "on", **settings) for kind, settings in kinds.items()]
        for name in ("whole", "again")
    )
    moves = {name: job(name, "on", **CLIPPED) for name in ("to-one", "to-ddp", "from-ddp")}
    moves["from-ddp"] = job("from-ddp", "off", **CLIPPED)
    train_all(2, [*again, *moves.values()], kill_at=5)
    last = again[0].checkpoints / "checkpoint-4"
    assert (last / "complete.json").is_file()
    for path in last.rglob("*"):
        refuse_pickle(path)
    train_all(2, [*whole, *again])
    for first, second in zip(whole, again, strict=True):
        for file in ("model", "train_log.jsonl"):
            assert contents(first.out.parent / file) == contents(second.out.parent / file)
    # A setting of the system may change in between.
    train_all(2, [job("to-ddp", "off", **CLIPPED), job("from-ddp", "on", **CLIPPED)])
    train_all(1, [job("to-one", "on", **CLIPPED)], kill_at=9)
    train_all(2, [job("to-one", "on", **CLIPPED)])
    for moved in moves.values():
        assert 0 < close(moved, whole[0]) + 1e-9 < 1e-6
        assert close(moved, alone) < 1e-6


def refuse_pickle(path: Path) -> None:
    """A file is JSON or safetensors through and through."""
    if path.suffix == ".safetensors":
        load_file(path)
        return
    json.loads(path.read_bytes())
    assert path.suffix == ".json"


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a folder, or the one file."""
    paths = [path] if path.is_file() else sorted(path.rglob("*"))
    return {one.name: one.read_bytes() for one in paths if one.is_file()}


def test_each_node_has_a_copy_of_the_weights(
    folder: Path, models: dict[str, Path], alone: TrainJob
) -> None:
    def job(name: str, **system: Any) -> TrainJob:
        asked = {"shard": "on", "checkpoint_steps": 2} | system
        return job_of(folder, models["plain"], name, system=asked, **CLIPPED)

    copies, all_of_them = job("copies"), job("all-of-them", shard_over="all")
    train_all(4, [copies, all_of_them], local=2, kill_at=5)
    for rank in range(4):
        assert held(copies, rank)["here"] == held(copies, rank)["all"] // 2
        # 334 rows of the embedding do not go into four equal parts.
        assert held(all_of_them, rank)["here"] < 0.26 * held(all_of_them, rank)["all"]
    assert sum(held(all_of_them, rank)["here"] for rank in range(4)) == held(copies, 0)["all"]
    # The second node does not come back; or the weights are spread over all nodes from here on.
    train_all(2, [copies], local=2)
    train_all(4, [all_of_them], local=2)
    assert close(copies, alone) < 1e-6
    assert close(all_of_them, alone) < 1e-6


def test_weights_are_spread_where_they_do_not_fit(folder: Path, models: dict[str, Path]) -> None:
    settings = {"epochs": 1, "system": {"shard": "auto"}}
    fits, does_not = (job_of(folder, models["plain"], n, **settings) for n in ("fits", "does not"))
    train_all(2, [fits])
    # Half of that is a process's: about what Python itself takes, by the estimate.
    train_all(2, [does_not], available=2**29)
    assert held(fits, 0)["sharded"] == 0
    assert held(does_not, 0)["sharded"] == held(does_not, 0)["tensors"]
