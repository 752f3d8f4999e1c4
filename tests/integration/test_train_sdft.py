"""Self-distillation: a training's steps against the loss by hand, its teacher, its continuation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import llama
from training_runs import finish, make_job, saved, start, wait_for, write_triplets

from tspin.forward.passes import ForwardPasses
from tspin.records.training_log import read_train_log, step_rows
from tspin.tokens.examples import Example, Examples
from tspin.train.arguments import TSPINConfig
from tspin.train.trainer import TSPINTrainer

pytestmark = pytest.mark.integration


def ids(*tokens: int) -> Any:
    return np.array(tokens, dtype=np.int32)


ROWS = [
    Example("a", ids(3, 4), (ids(5, 6, 2), ids(7, 2), ids(8, 9, 10, 2)), 2, ids(3, 5, 6, 4)),
    # One of the samples is the annotation: for the teacher that is a response like any other.
    Example("b", ids(4), (ids(9, 2), ids(9, 2), ids(10, 5, 2)), 2, ids(4, 9, 9)),
    Example("c", ids(6, 6, 7), (ids(12, 2), ids(13, 4, 2)), 1, ids(6, 12, 7)),
]


def trainer(out: Path, *, packed: bool, budget: int, **settings: Any) -> TSPINTrainer:
    """Each of two steps has all examples."""
    args = TSPINConfig(
        output_dir=str(out),
        use_cpu=True,
        method="sdft",
        global_batch_size=len(ROWS),
        tokens_per_device=budget,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        warmup_steps=0,
        save_strategy="no",
        **settings,
    )
    passes = ForwardPasses(0, packed=packed, chunk_size=3)
    return TSPINTrainer(llama(), args, Examples(ROWS), passes=passes)


def by_hand(model: torch.nn.Module, teacher: torch.nn.Module, reverse: bool) -> torch.Tensor:
    """Each prompt's is the mean over its y', each of these the mean over its tokens."""

    def logps(of: torch.nn.Module, prompt: Any, response: Any) -> torch.Tensor:
        sequence = torch.tensor(np.concatenate([prompt, response])[None]).long()
        return of(sequence).logits.log_softmax(dim=-1)[0, len(prompt) - 1 : -1]

    prompts = []
    for row in ROWS:
        losses = []
        for response in row.responses[1:]:
            p = logps(model, row.prompt, response)
            q = logps(teacher, row.teacher_prompt, response).detach()
            far = p.exp() * (p - q) if reverse else q.exp() * (q - p)
            losses.append(far.sum(dim=-1).mean())
        prompts.append(torch.stack(losses).mean())
    return torch.stack(prompts).mean()


@pytest.mark.parametrize(
    ("packed", "budget", "reverse"),
    [(True, 1000, False), (True, 1, True), (False, 1000, True), (False, 40, False)],
)
def test_steps_are_those_of_the_loss_by_hand(
    packed: bool, budget: int, reverse: bool, tmp_path: Path
) -> None:
    model, teacher = llama(), llama()
    expected = []
    for _ in range(2):  # The teacher stays what the policy was before the first step.
        model.zero_grad()
        loss = by_hand(model, teacher, reverse)
        loss.backward()
        expected.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
    direction = "reverse" if reverse else "forward"
    trained = trainer(
        tmp_path, packed=packed, budget=budget, sdft_divergence=direction, num_train_epochs=2
    )
    trained.train()
    rows = step_rows(trained.state.log_history)
    assert [row["loss"] for row in rows] == pytest.approx(expected, rel=1e-5)
    assert expected[1] < expected[0]
    weights = trained.model.state_dict()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights[name], parameter, rtol=1e-4, atol=1e-6)
    # y is in the log, for the guards.
    assert rows[0]["logps_per_token/annotated"] < 0


@pytest.mark.long
@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["full", "lora"])
def test_a_killed_training_has_the_same_teacher_when_it_goes_on(
    lora: dict[str, int] | None, tmp_path: Path, tiny_model_dir: Path
) -> None:
    write_triplets(tmp_path / "triplets.jsonl")
    settings: dict[str, Any] = {
        "method": "sdft",
        "lora": lora,
        "epochs": 4,  # 12 steps: the kill comes long before the end.
        "system": {"tokens_per_device": 200},
        "prompt": {"max_length": 160},
    }
    whole, killed = (
        make_job(tmp_path, tiny_model_dir, name, **settings) for name in ("whole", "killed")
    )
    assert finish(start(whole)) == ""
    process = start(killed)
    wait_for(process, lambda: saved(killed.checkpoints, 2))
    process.kill()
    process.communicate()
    assert killed.checkpoints.is_dir()
    again = start(killed)
    printed = finish(again)
    assert again.returncode == 0, printed
    for name in ("train_log.jsonl", "model.manifest.json"):
        ours, theirs = (job.out.parent / name for job in (whole, killed))
        assert ours.read_bytes() == theirs.read_bytes(), name
    rows = read_train_log(killed.out.with_name("train_log.jsonl"))
    assert rows[-1]["loss"] < rows[0]["loss"]
