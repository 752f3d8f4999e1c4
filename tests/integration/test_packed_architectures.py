"""Packed log-probabilities and gradients against padded ones, architecture by architecture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_logprobs import adapted, saved
from test_architectures import ARCHITECTURES, MOE, VOCABULARY, build
from tiny_models import llama
from torch import Tensor, nn

from tspin.config import LoraConfig
from tspin.forward.passes import ForwardPasses, choose_passes
from tspin.losses import tspin_loss
from tspin.tokens.packing import first_fit

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
PACKED = ForwardPasses(pad_token_id=0, packed=True, chunk_size=7)
PADDED = ForwardPasses(pad_token_id=0, chunk_size=7)

# A window of six tokens, which all triplets below exceed; in some layers, or in all.
MIXED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2 window": ("qwen2", {**MIXED, "use_sliding_window": True}),
    "qwen3 window": ("qwen3", {**MIXED, "use_sliding_window": True}),
    "gemma3 window": ("gemma3_text", MIXED),
    "cohere2 window": ("cohere2", MIXED),
    "phi3 window": ("phi3", {"sliding_window": 6}),
    "starcoder2 window": ("starcoder2", {"sliding_window": 6}),
    "mixtral window": ("mixtral", MOE | {"sliding_window": 6}),
    "olmo3 window": ("olmo3", MIXED),
}
EVERY = ARCHITECTURES | WINDOWS

# What keeps an architecture from packed rows, as the warning says it.
REFUSED = {
    "gemma2 soft-capped": "softcap",
    "gpt-oss": "s_aux",
    "gpt-j head bias": "does not attend through transformers' interface",
    "falcon": "does not attend through transformers' interface",
    "bloom alibi": "does not attend through transformers' interface",
    "mamba": "does not attend through transformers' interface",
    "stablelm": "does not attend through transformers' interface",
    "lfm2": "only 1 of 2 layers of Lfm2ForCausalLM are attention",
}
TAKEN = [name for name in EVERY if name not in REFUSED]

# How far gradients in float32 may be apart, relative to the largest one. In minicpm3, where they
# come back through two latent attentions, those of padded rows are by themselves 1.3e-5 from their
# values in float64; elsewhere 2.5e-6 at most. Packed and padded rows are 1.9e-5 to 2.0e-5 apart
# there, with 1, 2 and 4 threads.
ROUNDING = {"minicpm3 scaled before": 5e-5}

Example = dict[str, Any]


def example(generator: torch.Generator, prompt: int, *responses: int) -> Example:
    def ids(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    names = ("annotated_ids", "synthetic_ids", "proto_synthetic_ids")
    made = {name: [*ids(count), 2] for name, count in zip(names, responses, strict=True)}
    return {"id": "r", "prompt_ids": ids(prompt), **made}


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    made = [example(generator, 5, 6, 9, 3), example(generator, 3, 1, 4, 7)]
    # y' equals y0, y equals y', and a response that is its end token alone.
    made.append(made[0] | {"proto_synthetic_ids": made[0]["synthetic_ids"]})
    made.append(made[1] | {"synthetic_ids": made[1]["annotated_ids"], "annotated_ids": [2]})
    return made


def prompted(given: list[Example]) -> list[tuple[list[int], list[list[int]]]]:
    names = ("annotated_ids", "synthetic_ids", "proto_synthetic_ids")
    return [(one["prompt_ids"], [one[name] for name in names]) for one in given]


def with_gradients(
    model: nn.Module, passes: ForwardPasses, given: list[Example]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities, and the gradients of a sum that weighs each response differently."""
    model.zero_grad()
    with passes.on(model):
        logps, _ = passes.logps(model, passes.collate(given))
        (logps * torch.arange(1, len(logps) + 1, dtype=logps.dtype)).sum().backward()
    return logps.detach(), gradients_of(model)


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_equal(model: nn.Module, *, logps: float, gradients: float) -> None:
    """Packed equals padded, by tolerances relative to the size of what is compared."""
    expected, expected_gradients = with_gradients(model, PADDED, examples())
    found, found_gradients = with_gradients(model, PACKED, examples())
    torch.testing.assert_close(found, expected, rtol=logps, atol=0)
    assert_gradients_equal(found_gradients, expected_gradients, gradients)


def assert_gradients_equal(
    found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float
) -> None:
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    scale = max(scale, 1e-3)  # Gradients of equal responses may cancel out.
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=0, atol=rtol * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def chosen(model: nn.Module) -> ForwardPasses:
    return choose_passes(model, prompted(examples()), pad_token_id=0, chunk_size=7, device=CPU)


@pytest.mark.parametrize("name", TAKEN)
def test_packed_equals_padded(name: str) -> None:
    model = build(*EVERY[name])
    assert chosen(model).packed
    assert_equal(model, logps=1e-5, gradients=ROUNDING.get(name, 1e-5))
    # Layers that normalise do so in float32, whatever the model computes in.
    assert_equal(model.double(), logps=1e-10, gradients=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_recognised(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = build(*EVERY[name])
    before = model.config._attn_implementation
    with caplog.at_level(logging.WARNING, logger="tspin"):
        passes = chosen(model)
    assert not passes.packed
    (record,) = [one for one in caplog.records if one.name.startswith("tspin")]
    assert record.message.startswith("prompts are not shared and rows are padded, which is slower")
    assert REFUSED[name] in record.message
    assert model.config._attn_implementation == before


@contextmanager
def checkpointing(model: nn.Module) -> Iterator[None]:
    model.gradient_checkpointing_enable()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    yield


@pytest.mark.parametrize("name", ["llama", "gemma3 window", "gpt2 tied", "mixtral"])
def test_gradient_checkpointing(name: str) -> None:
    model = build(*EVERY[name]).double()
    expected, expected_gradients = with_gradients(model, PADDED, examples())
    with checkpointing(model):
        found, found_gradients = with_gradients(model, PACKED, examples())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    assert_gradients_equal(found_gradients, expected_gradients, 1e-5)


def test_two_forward_passes_before_a_backward_pass_under_checkpointing() -> None:
    # Each layer that runs again must find the layout of its own pass.
    model = llama().double()
    one, other = examples()[:2], examples()[2:]
    _, first = with_gradients(model, PADDED, one)
    _, second = with_gradients(model, PADDED, other)
    with checkpointing(model), PACKED.on(model):
        model.zero_grad()
        batches = [PACKED.collate(one), PACKED.collate(other)]
        logps = [PACKED.logps(model, batch)[0] for batch in batches]
        weights = torch.arange(1, 7, dtype=torch.float64)
        ((logps[0] * weights).sum() + (logps[1] * weights).sum()).backward()
    expected = {name: first[name] + second[name] for name in first}
    assert_gradients_equal(gradients_of(model), expected, 1e-5)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj", "lm_head")])
def test_lora(targets: Any, tmp_path: Path) -> None:
    policy = adapted(saved("llama", tmp_path), LoraConfig(r=2, target_modules=targets)).double()
    assert chosen(policy).packed
    assert_equal(policy, logps=1e-10, gradients=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3 window", "mixtral window"])
def test_bfloat16(name: str) -> None:
    model = build(*EVERY[name])
    exact, exact_gradients = with_gradients(model, PADDED, examples())
    # As training computes on a GPU: float32 weights, bfloat16 by autocast.
    with torch.autocast("cpu", torch.bfloat16):
        assert chosen(model).packed
        rounded, gradients = with_gradients(model, PACKED, examples())
    tokens = torch.tensor([len(r) for r in _responses(examples())])
    assert ((rounded - exact).abs() <= 0.1 * tokens.sqrt()).all()
    flat, other = (
        torch.cat([x.flatten() for x in g.values()]) for g in (gradients, exact_gradients)
    )
    assert torch.cosine_similarity(flat, other, dim=0) > 0.99


def _responses(given: list[Example]) -> list[list[int]]:
    names = ("annotated_ids", "synthetic_ids", "proto_synthetic_ids")
    return [one[name] for name in names for one in given]


@pytest.fixture(scope="module")
def policy() -> nn.Module:
    return build(*EVERY["gpt2 tied"]).double()  # It is float64 in every layer.


@settings(max_examples=25)
@given(data=st.data())
def test_any_triplets_any_budget_any_order_same_gradient(
    policy: nn.Module, data: st.DataObject
) -> None:
    lengths = st.tuples(st.integers(1, 6), *[st.integers(0, 6)] * 3)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    given_lengths = data.draw(st.lists(lengths, min_size=1, max_size=6))
    rows = [example(generator, *each) for each in given_lengths]
    for row in rows:  # Responses that are equal to one another.
        if data.draw(st.booleans()):
            row["proto_synthetic_ids"] = row["synthetic_ids"]
    budget = data.draw(st.integers(1, 60))
    order = data.draw(st.permutations(range(len(rows))))
    sizes = [PACKED.collate([row])["input_ids"].numel() for row in rows]

    def accumulated(passes: ForwardPasses, cut: list[list[int]]) -> dict[str, Tensor]:
        policy.zero_grad()
        with passes.on(policy):
            for chosen_rows in cut:
                batch = passes.collate([rows[index] for index in chosen_rows])
                logps = passes.logps(policy, batch)[0].view(3, -1)
                mean = tspin_loss(*logps, alpha=0.1, beta=0.3).loss
                (mean * len(chosen_rows) / len(rows)).backward()
        return gradients_of(policy)

    cut = first_fit(order, lambda index: sizes[index], budget)
    at_once = [list(range(len(rows)))]
    assert_gradients_equal(accumulated(PACKED, cut), accumulated(PADDED, at_once), 1e-9)
