"""The train step in one process, on a tiny random policy."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import make_job, write_triplets
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tspin.models.policy import load_policy
from tspin.records.manifest import content_hash, read_manifest
from tspin.records.records import Triplet, read_records
from tspin.records.training_log import read_train_log
from tspin.tokens.prompts import PromptTemplate
from tspin.train.arguments import TSPINConfig, trainer_arguments
from tspin.train.job import TrainJob
from tspin.train.step import run_job

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("train")
    write_triplets(made / "triplets.jsonl")
    return made


def log_of(job: TrainJob) -> list[dict[str, Any]]:
    return read_train_log(job.out.parent / "train_log.jsonl")


def weights_of(job: TrainJob) -> dict[str, torch.Tensor]:
    return load_file(job.out / "model.safetensors")


def plain_logp(model: torch.nn.Module, prompt: list[int], response: list[int]) -> float:
    """logp of a response by the book: all logits, one sequence, no padding."""
    ids = torch.tensor([[*prompt, *response]])
    with torch.no_grad():
        logps = model(ids).logits.double().log_softmax(dim=-1)[0, len(prompt) - 1 : -1]
    return float(logps.gather(1, torch.tensor(response)[:, None]).sum())


def logps_of_all(job: TrainJob, tokenizer: PreTrainedTokenizerFast) -> list[dict[str, float]]:
    """logp of each response, and tokens of y, under the initial policy."""
    model = load_policy(job.model, job.config.model, device=CPU, trainable=False)
    template = PromptTemplate.load(tokenizer, "auto")
    rows = []
    for record in read_records(job.triplets, Triplet):
        prompt = template.prompt_ids(record.messages)
        roles = {"y": record.annotated, "y1": record.synthetic, "y0": record.proto_synthetic}
        ids = {role: template.response_ids(text) for role, text in roles.items()}
        row = {role: plain_logp(model, prompt, response) for role, response in ids.items()}
        rows.append(row | {"tokens": float(len(ids["y"]))})
    return rows


def softplus(value: float) -> float:
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)


def by_hand(method: str, rows: list[dict[str, float]]) -> float:
    if method == "sft":
        return -sum(row["y"] for row in rows) / sum(row["tokens"] for row in rows)
    losses = [
        softplus(row["y1"] - row["y"]) + 0.1 * softplus(row["y0"] - row["y1"]) for row in rows
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("method", ["tspin", "sft"])
def test_accumulation_is_the_large_batch(
    folder: Path, tiny_model_dir: Path, tiny_tokenizer: PreTrainedTokenizerFast, method: str
) -> None:
    # 11 triplets, 6 a step: steps of 6 and 5, in forward passes of 1, 4 (and 2, or 1) and 6.
    made = [
        make_job(
            folder,
            tiny_model_dir,
            f"{method}-{size}",
            method=method,
            global_batch_size=6,
            system={"tokens_per_device": size},
        )
        for size in (1, 200, 1000)
    ]
    for job in made:
        run_job(job)
    logs = [log_of(job) for job in made]
    for other, job in zip(logs[1:], made[1:], strict=True):
        for ours, theirs in zip(logs[0], other, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
        for name, weight in weights_of(made[0]).items():
            torch.testing.assert_close(weight, weights_of(job)[name], rtol=1e-4, atol=1e-5)

    # The warm-up's first step has learning rate 0: both steps of the first epoch see the initial
    # policy, and between them every triplet once.
    rows = logps_of_all(made[0], tiny_tokenizer)
    first, second = logs[0][0], logs[0][1]
    weights = [6.0, 5.0]
    if method == "sft":
        weights = [6 * first["lengths/annotated"], 5 * second["lengths/annotated"]]
        assert sum(weights) == pytest.approx(sum(row["tokens"] for row in rows))
    mean = (weights[0] * first["loss"] + weights[1] * second["loss"]) / sum(weights)
    assert mean == pytest.approx(by_hand(method, rows), rel=1e-5)
    logp = (6 * first["logps/annotated"] + 5 * second["logps/annotated"]) / 11
    assert logp == pytest.approx(sum(row["y"] for row in rows) / 11, rel=1e-5)


def test_papers_setting(folder: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    args = TSPINConfig(output_dir=str(tmp_path), use_cpu=True)
    assert (args.optim, args.weight_decay, args.max_grad_norm) == ("rmsprop", 0.0, 0.0)
    assert (args.lr_scheduler_type, args.warmup_steps, args.num_train_epochs) == ("linear", 0.1, 2)
    job = make_job(folder, tiny_model_dir, "papers", global_batch_size=1, epochs=2)
    run_job(job)
    rows = log_of(job)
    assert len(rows) == 22
    warm_up = 3  # a tenth of 22, rounded up
    expected = [1e-3 * step / warm_up for step in range(warm_up)]
    expected += [1e-3 * (22 - step) / (22 - warm_up) for step in range(warm_up, 22)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)
    assert max(row["grad_norm"] for row in rows) > 10  # a usual clip at 1 would bind
    assert trainer_arguments(job).max_grad_norm == 0
    # One triplet a step: each epoch has the same ones, in another order.
    seen = [row["lengths/annotated"] for row in rows]
    assert sorted(seen[:11]) == sorted(seen[11:])
    assert seen[:11] != seen[11:]

    # The second step is RMSProp's: with v = 0.99 * 0.01 * g1^2 + 0.01 * g2^2, a weight moves by
    # lr * g2 / sqrt(v), which is at most lr / sqrt(0.01), ten times the learning rate.
    one = make_job(folder, tiny_model_dir, "two-steps", global_batch_size=6, epochs=1)
    run_job(one)
    before = load_policy(one.model, one.config.model, device=CPU, trainable=False).state_dict()
    moved = max((weights_of(one)[n] - before[n]).abs().max() for n in weights_of(one))
    lr = log_of(one)[1]["learning_rate"]
    assert 5 * lr < float(moved) <= 10.01 * lr


@pytest.mark.parametrize("method", ["spin", "space", "tspin_ref"])
def test_reference_is_the_policy_itself_before_training(
    folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, method: str, tmp_path: Path
) -> None:
    # GPT-2 drops out a tenth of everything by default: noise in any difference of two logps.
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_positions=128, n_embd=32)
    config.n_layer = config.n_head = 2
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = 0
    start = (2 if method == "space" else 1) * math.log(2)
    whole = AutoModelForCausalLM.from_pretrained.__func__

    def counting(cls: type, *args: Any, **kwargs: Any) -> Any:
        nonlocal loaded
        loaded += 1
        return whole(cls, *args, **kwargs)

    job = make_job(folder, tmp_path, f"reference-{method}", method=method, iteration=0)
    gc.collect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoModelForCausalLM, "from_pretrained", classmethod(counting))
        run_job(job)
    assert loaded == 1
    rows = log_of(job)
    for row in rows[:2]:  # at learning rate 0, and directly after
        assert row["loss"] == pytest.approx(start, abs=1e-5)
    assert rows[-1]["loss"] < 0.995 * start
    manifest = read_manifest(job.out)
    assert manifest is not None
    # What was trained before there was a setting for SPACE is still current.
    assert ("noise_ratio" in manifest.parameters) == (method == "space")
    assert rows[-1]["rewards/margins"] == pytest.approx(
        rows[-1]["rewards/annotated"] - rows[-1]["rewards/synthetic"], abs=1e-5
    )


def test_lora_goes_on_with_the_same_adapter(
    folder: Path, tiny_model_dir: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    base = content_hash(tiny_model_dir)
    lora = {"r": 4, "alpha": 8}
    first = make_job(folder, tiny_model_dir, "lora-0", lora=lora, iteration=0)
    run_job(first)
    assert {path.name for path in first.out.glob("*.safetensors")} == {"adapter_model.safetensors"}
    second = make_job(folder, tiny_model_dir, "lora-1", lora=lora, global_batch_size=11)
    second = second.model_copy(update={"model": str(first.out)})
    assert run_job(second).model == f"{content_hash(first.out)}+{base}"
    one, two = (load_file(job.out / "adapter_model.safetensors") for job in (first, second))
    assert one.keys() == two.keys()
    assert any((one[name] != two[name]).any() for name in one)
    assert content_hash(tiny_model_dir) == base
    # Its first step, of all triplets and at learning rate 0, sees what the first one ended with.
    rows = logps_of_all(second, tiny_tokenizer)
    assert log_of(second)[0]["loss"] == pytest.approx(by_hand("tspin", rows), rel=1e-5)
