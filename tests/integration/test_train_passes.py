"""Trainings on packed and on padded rows, in forward passes of any size: the same training."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_architectures import build
from tiny_models import VOCABULARY, llama
from training_runs import make_job, write_triplets
from transformers import AutoTokenizer, TrainerCallback

from tspin.forward.passes import ForwardPasses
from tspin.records.training_log import read_train_log, step_rows
from tspin.tokens.examples import Example, Examples
from tspin.train.arguments import TSPINConfig
from tspin.train.step import run_job
from tspin.train.trainer import TSPINTrainer

pytestmark = pytest.mark.integration


def examples(roles: int) -> Examples:
    draw = random.Random(0)

    def ids(low: int, high: int) -> Any:
        count = draw.randint(low, high)
        return np.array([draw.randrange(3, VOCABULARY) for _ in range(count)] + [2], np.int32)

    rows = [
        Example(str(number), ids(1, 8), tuple(ids(0, 12) for _ in range(roles)))
        for number in range(7)
    ]
    # At iteration 0 many y' equal y0; here one y' equals y as well.
    first = rows[0]
    rows[0] = Example("0", first.prompt, (first.responses[0],) * roles)
    return Examples(rows)


def trained(
    passes: ForwardPasses,
    budget: int,
    out: Path,
    callbacks: list[TrainerCallback] | None = None,
    **settings: Any,
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The log's rows, the weights, and all that was logged."""
    args = TSPINConfig(
        output_dir=str(out),
        use_cpu=True,
        global_batch_size=4,
        tokens_per_device=budget,
        # RMSProp would make whole steps of the rounding in gradients that cancel out.
        optim="sgd",
        learning_rate=1e-3,
        warmup_steps=0,
        save_strategy="no",
        **settings,
    )
    model = llama()
    roles = 1 if args.method == "sft" else 3
    trainer = TSPINTrainer(model, args, examples(roles), passes=passes, callbacks=callbacks)
    trainer.train()
    history = trainer.state.log_history
    return step_rows(history), model.state_dict(), history


@pytest.mark.parametrize("method", ["tspin", "sft"])
def test_packed_and_padded_trainings_are_the_same(method: Any, tmp_path: Path) -> None:
    settings = {"method": method, "beta": 0.1 if method == "tspin" else 0.0}
    runs = [
        trained(ForwardPasses(0, packed=packed), budget, tmp_path, **settings)
        for packed, budget in ((False, 10_000), (True, 10_000), (True, 30), (False, 60), (True, 1))
    ]
    log, weights, _ = runs[0]
    assert len(log) == 4
    if method == "tspin":
        assert sorted((log[0]["identical"], log[1]["identical"])) in ([0, 0.25], [0, 1 / 3])
    for other_log, other_weights, history in runs[1:]:
        for ours, theirs in zip(other_log, log, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
        for name, weight in other_weights.items():
            torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-5)
        speeds = [row for row in history if "loss" in row]
        assert all(row["speed/triplets_per_second"] > 0 for row in speeds)
        assert all(row["speed/tokens_per_second"] > 0 for row in speeds)
    padding = [[row["speed/padding"] for row in run[2] if "loss" in row] for run in runs]
    assert max(padding[1]) == 0 < min(padding[0]) < 1


def test_batches_that_another_process_collates_are_the_same(tmp_path: Path) -> None:
    forks: list[int] = []
    before = os.fork

    def fork() -> int:
        child = before()
        forks.append(child)
        return child

    packed = ForwardPasses(0, packed=True)
    log, weights, _ = trained(packed, 30, tmp_path, beta=0.1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fork", fork)
        beside = trained(packed, 30, tmp_path, beta=0.1, dataloader_num_workers=1)
    assert len(forks) == 2  # One an epoch.
    assert beside[0] == log
    for name, weight in beside[1].items():
        assert torch.equal(weight, weights[name])


def test_the_log_has_no_speeds(tmp_path: Path) -> None:
    rows, _, history = trained(ForwardPasses(0, packed=True), 100, tmp_path, beta=0.1)
    assert any(name.startswith("speed/") for row in history for name in row)
    assert not any(name.startswith("speed/") for row in rows for name in row)


def test_an_architecture_that_does_not_pack_trains_all_the_same(
    tmp_path: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_triplets(tmp_path / "triplets.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.save_pretrained(tmp_path / "bloom")
    model = build("bloom", {"vocab_size": len(tokenizer)})
    model.save_pretrained(tmp_path / "bloom")
    job = make_job(tmp_path, tmp_path / "bloom", epochs=1)
    run_job(job)
    assert "rows are padded, which is slower: BloomForCausalLM does not attend" in caplog.text
    log = read_train_log(job.out.parent / "train_log.jsonl")
    assert [row["step"] for row in log] == [1, 2, 3]
    assert all(np.isfinite(row["loss"]) for row in log)


class Arithmetic(TrainerCallback):
    """Whether numbers too small to be normal were 0 after each optimiser step."""

    def __init__(self) -> None:
        self.flushed: list[bool] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.flushed.append(bool((torch.full((4,), 1e-38) / 10 == 0).all()))


def test_denormal_numbers_cost_no_time_while_training_and_are_back_afterwards(
    tmp_path: Path,
) -> None:
    seen = Arithmetic()
    trained(ForwardPasses(0, packed=True), 100, tmp_path, callbacks=[seen], beta=0.1)
    assert seen.flushed == [True] * 4
    assert (torch.full((4,), 1e-38) / 10 > 0).all()
