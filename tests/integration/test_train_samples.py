"""A training on several y' a prompt, against the loss by hand on all logits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import llama

from tspin.forward.passes import ForwardPasses
from tspin.records.training_log import step_rows
from tspin.tokens.examples import Example, Examples
from tspin.train.arguments import TSPINConfig
from tspin.train.reference import reference_logps
from tspin.train.trainer import TSPINTrainer

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def ids(*tokens: int) -> Any:
    return np.array(tokens, dtype=np.int32)


def example(
    identity: str, prompt: Any, y: Any, played: list[Any], y0: Any, *between: Any
) -> Example:
    return Example(identity, prompt, (y, *played, y0, *between), samples=len(played))


TWO = [
    example("a", ids(3, 4), ids(5, 6, 2), [ids(7, 2), ids(8, 9, 10, 2)], ids(11, 2)),
    # One of the samples is the annotation, and the other is y0.
    example("b", ids(4), ids(9, 2), [ids(9, 2), ids(10, 5, 2)], ids(10, 5, 2)),
]
UNEVEN = [*TWO, example("c", ids(6, 6, 7), ids(12, 2), [ids(13, 4, 2)], ids(14, 2))]


def trained(
    rows: list[Example], out: Path, *, packed: bool = True, budget: int = 1000, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The log's rows and the weights; each step has all examples."""
    args = TSPINConfig(
        output_dir=str(out),
        use_cpu=True,
        global_batch_size=len(rows),
        tokens_per_device=budget,
        optim="sgd",
        learning_rate=1e-2,
        warmup_steps=0,
        save_strategy="no",
        **settings,
    )
    model, passes = llama(), ForwardPasses(0, packed=packed)
    if args.method == "spin":
        rows = [Example(r.id, r.prompt, r.responses[:-1], samples=r.samples) for r in rows]
    examples = Examples(rows)
    if args.method == "spin":
        examples.reference_logps = reference_logps(
            model, examples, out / "reference.safetensors", key="k", passes=passes, args=args
        )
    trainer = TSPINTrainer(model, args, examples, passes=passes)
    trainer.train()
    return step_rows(trainer.state.log_history), model.state_dict()


def logp(model: torch.nn.Module, prompt: Any, response: Any) -> torch.Tensor:
    """By the book: all logits, one sequence, no padding."""
    sequence = torch.tensor(np.concatenate([prompt, response])[None]).long()
    logps = model(sequence).logits.log_softmax(dim=-1)[0, len(prompt) - 1 : -1]
    return logps.gather(1, torch.tensor(response).long()[:, None]).sum()


BETWEEN = [
    example("a", ids(3, 4), ids(5, 6, 2), [ids(7, 2), ids(8, 9, 10, 2)], ids(11, 2), ids(12, 2)),
    # Of this prompt the policy between gave the annotation.
    example("b", ids(4), ids(9, 2), [ids(10, 5, 2)], ids(8, 2), ids(9, 2)),
]


def by_hand_over_all(model: torch.nn.Module, rows: list[Example]) -> torch.Tensor:
    """tspin_all with one policy between: the mean over each prompt's y'."""
    link = torch.nn.functional.softplus
    prompts = []
    for row in rows:
        y, *played, y0, first = (logp(model, row.prompt, response) for response in row.responses)
        losses = []
        for y1 in played:
            over = (link(y1 - y) + link(first - y)) / 2
            later = (link(first - y1) + link(y0 - y1) + link(y0 - first)) / 3
            losses.append(over + 0.1 * later)
        prompts.append(torch.stack(losses).mean())
    return torch.stack(prompts).mean()


@pytest.mark.parametrize(("packed", "budget"), [(True, 1000), (True, 1), (False, 40)])
def test_a_step_against_all_policies_is_that_of_the_loss_by_hand(
    packed: bool, budget: int, tmp_path: Path
) -> None:
    model = llama().eval()
    loss = by_hand_over_all(model, BETWEEN)
    loss.backward()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    settings = {"method": "tspin_all", "beta": 0.1, "num_train_epochs": 1}
    log, weights = trained(BETWEEN, tmp_path, packed=packed, budget=budget, **settings)
    assert log[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        expected = before[name] - 1e-2 * parameter.grad
        torch.testing.assert_close(weights[name], expected, rtol=1e-4, atol=1e-6)


def by_hand(model: torch.nn.Module, rows: list[Example]) -> torch.Tensor:
    """Eq. (7) of arXiv 2601.08198: each prompt's is the mean over its y'."""
    link = torch.nn.functional.softplus
    prompts = []
    for row in rows:
        y, *played, y0 = (logp(model, row.prompt, response) for response in row.responses)
        losses = [link(y1 - y) + 0.1 * link(y0 - y1) for y1 in played]
        prompts.append(torch.stack(losses).mean())
    return torch.stack(prompts).mean()


@pytest.mark.parametrize("rows", [TWO, UNEVEN], ids=["two", "uneven"])
def test_a_step_is_that_of_the_loss_by_hand(rows: list[Example], tmp_path: Path) -> None:
    model = llama().eval()
    loss = by_hand(model, rows)
    loss.backward()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    log, weights = trained(rows, tmp_path, beta=0.1, num_train_epochs=1)
    assert log[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        expected = before[name] - 1e-2 * parameter.grad
        torch.testing.assert_close(weights[name], expected, rtol=1e-4, atol=1e-6)
    # One of the four, or half of one of three prompts.
    assert log[0]["identical"] == pytest.approx(0.5 / len(rows))


@pytest.mark.parametrize("settings", [{"beta": 0.1}, {"method": "spin"}], ids=["tspin", "spin"])
def test_however_it_is_cut_into_passes(settings: dict[str, Any], tmp_path: Path) -> None:
    runs = [
        trained(UNEVEN, tmp_path / f"{packed}-{budget}", packed=packed, budget=budget, **settings)
        for packed, budget in ((True, 1000), (True, 1), (False, 1000), (False, 1), (False, 40))
    ]
    log, weights = runs[0]
    assert len(log) == 2
    for other_log, other_weights in runs[1:]:
        for ours, theirs in zip(other_log, log, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
        for name, weight in other_weights.items():
            torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-6)


def test_spin_begins_at_the_logarithm_of_two(tmp_path: Path) -> None:
    log, _ = trained(UNEVEN, tmp_path, method="spin")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert log[1]["loss"] < math.log(2)


def test_a_sample_given_twice_is_given_once(tmp_path: Path) -> None:
    once = [example(r.id, r.prompt, r.responses[0], [r.responses[1]], r.responses[-1]) for r in TWO]
    twice = [
        example(r.id, r.prompt, r.responses[0], [r.responses[1]] * 2, r.responses[-1]) for r in TWO
    ]
    (log, weights), (other_log, other_weights) = (
        trained(rows, tmp_path, beta=0.1) for rows in (once, twice)
    )
    for ours, theirs in zip(other_log, log, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    for name, weight in other_weights.items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-5, atol=1e-7)
