"""The choice between packed and padded passes, and passes of both kinds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import llama
from torch import Tensor
from transformers import AttentionInterface, LlamaForCausalLM

from tspin.attention.interface import UnsupportedModelError, _tree_attention, tree_attention
from tspin.forward.passes import ForwardPasses, choose_passes
from tspin.forward.responses import response_likelihoods

CPU = torch.device("cpu")
PROMPTED = [([5, 6], [[7, 2], [8, 9, 2]]), ([3, 4, 5, 6, 7], [[9, 8, 7, 6, 5, 2], [4, 2]])]


def chosen(model: LlamaForCausalLM) -> ForwardPasses:
    return choose_passes(model, PROMPTED, pad_token_id=0, chunk_size=7, device=CPU)


def with_attention(
    model: LlamaForCausalLM, change: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> LlamaForCausalLM:
    """A model whose packed attention is not quite what it should be."""

    def wrong(module: Any, query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        out, _ = _tree_attention(module, query, *args, **kwargs)
        return change(out), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "tspin_tree", wrong)
    return model


def test_a_model_that_packs_is_packed_and_left_as_it_was() -> None:
    model = llama().train()
    assert chosen(model) == ForwardPasses(0, packed=True, head="chunked", chunk_size=7)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "change",
    [lambda out: out * 1.01, lambda out: out * float("nan"), lambda out: out.roll(1, dims=1)],
    ids=["a hundredth off", "not a number", "the token before"],
)
def test_a_difference_is_seen_and_said(
    change: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = with_attention(llama(), change, monkeypatch)
    with caplog.at_level(logging.WARNING, logger="tspin"):
        assert not chosen(model).packed
    assert "packed log-probabilities differ from padded ones by" in caplog.text
    assert "more than 0.0001" in caplog.text
    assert model.config._attn_implementation == "sdpa"


def test_rounding_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(with_attention(llama(), lambda out: out * (1 + 1e-7), monkeypatch)).packed


def test_a_window_that_is_not_honoured_shows_in_the_longest_example(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = llama()
    for layer in model.model.layers:  # As an architecture would whose window is in the mask alone.
        own = layer.self_attn.forward

        def windowed(*args: Any, _own: Any = own, **kwargs: Any) -> Any:
            if kwargs.get("tree") is None:
                length = args[0].shape[1] if args else kwargs["hidden_states"].shape[1]
                at = torch.arange(length)
                distance = at[:, None] - at
                kwargs["attention_mask"] = ((distance >= 0) & (distance < 8))[None, None]
            return _own(*args, **kwargs)

        layer.self_attn.forward = windowed
    short = [PROMPTED[0]]
    assert choose_passes(model, short, pad_token_id=0, chunk_size=7, device=CPU).packed
    assert not chosen(model).packed
    assert "differ from padded ones" in caplog.text


def test_other_work_of_the_model_is_refused_while_it_is_set_up_for_trees() -> None:
    model = llama()
    with tree_attention(model), pytest.raises(UnsupportedModelError, match="not told which tokens"):
        model(torch.tensor([[1, 2, 3]]))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 97)


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_of_any_number_of_responses(packed: bool) -> None:
    model = llama().double()
    passes = ForwardPasses(0, packed=packed, chunk_size=7)
    uneven = [([5, 6], [[7, 2]]), ([3, 4], [[9, 8, 2], [4, 2], [9, 8, 2], [1, 1, 1, 2]])]
    with passes.on(model), torch.no_grad():
        logps, tokens = passes.logps(model, passes.batch(uneven))
    assert tokens.tolist() == [2, 3, 2, 3, 4]
    for at, (prompt, response) in enumerate((p, r) for p, rs in uneven for r in rs):
        every = model(torch.tensor([[*prompt, *response]])).logits.log_softmax(-1)[0]
        taken = [every[len(prompt) - 1 + n, token] for n, token in enumerate(response)]
        torch.testing.assert_close(logps[at], torch.stack(taken).sum(), rtol=1e-12, atol=0)


def test_cuts() -> None:
    sizes = [(10, 4, 3), (20, 9, 3), (12, 5, 3)]
    packed, padded = ForwardPasses(0, packed=True), ForwardPasses(0)
    assert packed.cut([0, 1, 2], sizes, 32) == [[1, 2], [0]]
    # Three rows as long as the longest: 27 tokens, then 30 for the other two.
    assert padded.cut([0, 1, 2], sizes, 32) == [[1], [2, 0]]
    assert padded.cut([0, 1, 2], sizes, 1) == [[1], [2], [0]]


def test_likelihoods_share_prompts_and_keep_their_order() -> None:
    model = llama().double().eval()
    pairs = [([5, 6], [7, 2]), ([3, 4, 5], [9, 8, 2]), ([5, 6], [8, 9, 2]), ([3, 4, 5], [9, 8, 2])]
    found = response_likelihoods(model, pairs, pad_token_id=0, tokens_per_device=6, chunk_size=7)
    alone = [
        response_likelihoods(model, [pair], pad_token_id=0, tokens_per_device=1, chunk_size=7)[0]
        for pair in pairs
    ]
    assert [one.tokens for one in found] == [2, 3, 3, 3]
    assert [one.logp for one in found] == pytest.approx([one.logp for one in alone], rel=1e-12)
    assert not response_likelihoods(model, [], pad_token_id=0, tokens_per_device=1, chunk_size=7)


def test_no_pass_is_made_of_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for all in one: whoever computes a block alone makes the same passes of it."""
    model = llama().double().eval()
    pairs = [([3, 4 + n], [7, *[9] * n, 2]) for n in range(5)] + [([3, 4], [8, 8, 2])]
    blocks = [0, 1, 0, 1, 0, 1]  # The first prompt stands in both.
    made: list[list[list[int]]] = []
    batch = ForwardPasses.batch

    def listen(passes: ForwardPasses, prompted: Any) -> dict[str, Any]:
        made.append([prompt for prompt, _ in prompted])
        return batch(passes, prompted)

    monkeypatch.setattr(ForwardPasses, "batch", listen)
    settings: dict[str, Any] = {"pad_token_id": 0, "tokens_per_device": 100, "chunk_size": 7}

    def passes_of(*held: int) -> list[list[list[int]]]:
        own = [at for at in range(6) if blocks[at] in held]
        numbers = [blocks[at] for at in own]
        response_likelihoods(model, [pairs[at] for at in own], blocks=numbers, **settings)
        return made[-len(held) :]

    both = passes_of(0, 1)
    assert [len(prompts) for prompts in both] == [3, 3]
    assert both == [*passes_of(0), *passes_of(1)]
