"""The divergence from a teacher against numbers by hand and against all logits at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import llama
from torch import Tensor, nn

from tspin.forward.distillation import Divergence, frozen_copy, token_divergence
from tspin.forward.logprobs import Head
from tspin.forward.passes import ForwardPasses, evaluating

DIRECTIONS: tuple[Divergence, ...] = ("forward", "reverse")


def logits(*rows: tuple[float, ...]) -> Tensor:
    """Of distributions, each moved by another constant, which changes nothing."""
    moved = [[math.log(p) + at for p in row] for at, row in enumerate(rows)]
    return torch.tensor(moved, dtype=torch.float64, requires_grad=True)


def test_divergence_by_hand() -> None:
    policy, teacher = logits((0.5, 0.5), (0.2, 0.8)), logits((0.25, 0.75), (0.2, 0.8))
    # 0.25 log(0.25/0.5) + 0.75 log(0.75/0.5) = -0.1732867951 + 0.3040988311 = 0.1308120360
    forward = token_divergence(policy, teacher, divergence="forward")
    assert forward.tolist() == pytest.approx([0.1308120360, 0.0], abs=1e-9)
    # 0.5 log(0.5/0.25) + 0.5 log(0.5/0.75) = 0.3465735903 - 0.2027325541 = 0.1438410362
    reverse = token_divergence(policy, teacher, divergence="reverse")
    assert reverse.tolist() == pytest.approx([0.1438410362, 0.0], abs=1e-9)


@pytest.mark.parametrize("divergence", DIRECTIONS)
def test_divergence_gradients(divergence: Divergence) -> None:
    torch.manual_seed(0)
    policy, teacher = (torch.randn(4, 7, dtype=torch.float64).requires_grad_() for _ in range(2))
    values = token_divergence(policy, teacher, divergence=divergence)
    values.sum().backward()
    p, q = policy.detach().softmax(-1), teacher.detach().softmax(-1)
    expected = p - q  # Of the forward one; of the reverse one p (log(p/q) - KL).
    if divergence == "reverse":
        expected = p * ((p / q).log() - values.detach()[:, None])
    torch.testing.assert_close(policy.grad, expected)
    assert teacher.grad is None


def example(
    name: str, prompt: list[int], shown: list[int], y: list[int], *played: list[int]
) -> Any:
    common = {"id": name, "prompt_ids": prompt, "teacher_prompt_ids": shown, "annotated_ids": y}
    common["proto_synthetic_ids"] = common["reference_logps"] = None
    items = [common | {"synthetic_ids": one} for one in played]
    return items if len(items) == 1 else [one | {"sample": at} for at, one in enumerate(items)]


EXAMPLES = [
    # The second of three samples is the annotation, the third one the first.
    *example("a", [3, 4], [3, 5, 6, 4], [5, 6, 2], [7, 2], [5, 6, 2], [7, 2]),
    *example("b", [6, 6, 7], [8, 9], [12, 2], [13, 4, 9, 2]),
    *example("c", [8], [8, 1, 1], [3, 2], [4]),
]


def test_a_teacher_has_its_own_prompts_and_the_responses_of_the_policy() -> None:
    batch = ForwardPasses(0, packed=True).collate(EXAMPLES)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6, 7, 6, 6, 7, 12, 13, 4, 9, 8, 3]]
    teacher = batch["teacher"]
    assert teacher["input_ids"].tolist() == [[3, 5, 6, 4, 7, 5, 6, 8, 9, 13, 4, 9, 8, 1, 1]]
    assert teacher["targets"].tolist() == [7, 2, 5, 6, 2, 13, 4, 9, 2, 4]
    assert teacher["rows"].tolist() == [0, 1, 0, 2, 3]
    for packed in (True, False):
        batch = ForwardPasses(0, packed=packed).collate(EXAMPLES)
        taught, places = batch["teacher"], batch["teacher"]["places"]
        tokens, told = (
            one["targets"] if packed else one["input_ids"][one["response_mask"]]
            for one in (batch, taught)
        )
        assert tokens[places].tolist() == told.tolist()
    assert "teacher" not in ForwardPasses(0).collate(
        [{k: v for k, v in one.items() if k != "teacher_prompt_ids"} for one in EXAMPLES]
    )


def by_hand(
    model: nn.Module, teacher: nn.Module, divergence: Divergence
) -> tuple[list[Tensor], list[Tensor]]:
    """Divergences of each y', and logps of each y and y', one sequence at a time."""

    def logps(of: nn.Module, prompt: list[int], response: list[int]) -> Tensor:
        ids = torch.tensor([[*prompt, *response]])
        return of(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]

    divergences, sums = [], []
    for one in EXAMPLES:
        response = one["synthetic_ids"]
        p = logps(model, one["prompt_ids"], response)
        q = logps(teacher, one["teacher_prompt_ids"], response).detach()
        far = q.exp() * (q - p) if divergence == "forward" else p.exp() * (p - q)
        divergences.append(far.sum())
    for key in ("annotated_ids", "synthetic_ids"):
        for one in EXAMPLES:
            taken = logps(model, one["prompt_ids"], one[key])
            sums.append(taken.gather(1, torch.tensor(one[key])[:, None]).sum())
    return divergences, sums


@pytest.mark.parametrize("divergence", DIRECTIONS)
@pytest.mark.parametrize(
    ("packed", "head", "chunk"),
    [(True, "chunked", 100), (True, "chunked", 2), (False, "chunked", 3), (False, "model", 2)],
)
def test_sums_are_those_over_all_logits(
    divergence: Divergence, packed: bool, head: Head, chunk: int
) -> None:
    model, teacher = llama().double(), llama(seed=1).double().requires_grad_(False).eval()
    expected, logps = by_hand(model, teacher, divergence)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    (torch.stack(expected) * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    passes = ForwardPasses(0, packed=packed, head=head, chunk_size=chunk)
    batch = passes.collate(EXAMPLES)
    with passes.on(model), passes.on(teacher):
        sums, tokens, found = passes.distilled(model, teacher, batch, divergence)
        (found * weights).sum().backward()
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(sums, torch.stack(logps))
    assert tokens.tolist() == [3, 3, 3, 2, 2, 2, 3, 2, 4, 1]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_frozen_copy_has_what_is_trained_for_itself() -> None:
    policy = get_peft_model(llama(), LoraConfig(r=2, target_modules="all-linear"))
    policy.train()
    with torch.no_grad():  # As an iteration finds it that goes on with an adapter.
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    teacher = frozen_copy(policy)
    assert not teacher.training
    assert not [p for p in teacher.parameters() if p.requires_grad]
    own = dict(teacher.named_parameters())
    for name, parameter in policy.named_parameters():
        assert (own[name] is parameter) == ("lora_" not in name)
        assert torch.equal(own[name], parameter)
    ids = torch.tensor([[3, 4, 5]])
    with evaluating(policy):
        before = teacher(ids).logits
        assert torch.equal(policy(ids).logits, before)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
        assert torch.equal(teacher(ids).logits, before)
        assert not torch.equal(policy(ids).logits, before)
    full = llama()
    copies = {id(parameter) for parameter in frozen_copy(full).parameters()}
    assert not copies & {id(parameter) for parameter in full.parameters()}
