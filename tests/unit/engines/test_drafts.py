"""Drafts: fewer forward passes, and the tokens that there would be without them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from tiny_models import VOCABULARY, llama
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tspin.engines import SamplingParams
from tspin.engines.decoding import decode
from tspin.engines.decoding.drafts import Drafts
from tspin.engines.sampling import RowSampler

SAMPLED = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=1)
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=1)
NARROW = SamplingParams(temperature=0.7, top_p=0.8, max_new_tokens=1)
LONGEST = 40

Tokens = list[list[int]]


def small(kind: type, settings: type, **more: object) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    return kind(settings(**shape | {"initializer_range": 0.5} | more)).eval()


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=0.3, **shape)).eval()


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: llama().eval(),
    "qwen2": lambda: small(Qwen2ForCausalLM, Qwen2Config),
    "gpt2": gpt2,
}
WITHOUT: dict[str, Callable[[], PreTrainedModel]] = {
    "sliding window": lambda: small(MistralForCausalLM, MistralConfig, sliding_window=8),
    # It counts positions by itself.
    "no position ids": lambda: small(BloomForCausalLM, BloomConfig, n_head=2, n_layer=2),
}


class Ending:
    """By the last token, which is drawn, so that nothing is told about rows."""

    def __call__(self, emitted: Sequence[int]) -> bool:
        return emitted[-1] % 31 == 0 or len(emitted) == LONGEST


def make_prompts(count: int) -> list[tuple[int, ...]]:
    draw = random.Random(1)
    return [
        tuple(draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 20)))
        for _ in range(count)
    ]


@contextmanager
def passes(model: PreTrainedModel) -> Iterator[list[tuple[int, int, int]]]:
    """Rows, tokens a row and tokens in the cache behind it, of each pass in the block."""
    shapes: list[tuple[int, int, int]] = []

    def note(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        shapes.append((*given["input_ids"].shape, given["attention_mask"].shape[1]))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    hook.remove()


def run(
    model: PreTrainedModel,
    count: int,
    width: int,
    drafts: Tokens | tuple[()],
    sampling: SamplingParams = SAMPLED,
) -> tuple[Tokens, list[tuple[int, int, int]]]:
    """What was emitted, and the passes that it took."""
    with passes(model) as shapes:
        emitted = decode(
            model,
            make_prompts(count),
            width=width,
            pad_token_id=0,
            sampler=RowSampler(sampling, range(100, 100 + count), torch.device("cpu")),
            ended=Ending(),
            drafts=drafts,
        )
    return emitted, shapes


def edited(rows: Tokens, share: float) -> Tokens:
    """Drafts in which some tokens are others, some are missing and some are new."""
    draw = random.Random(2)
    drafts = []
    for row in rows:
        draft: list[int] = []
        for token in row:
            kind = draw.choice(["other", "missing", "new"]) if draw.random() < share else "same"
            draft += {
                "same": [token],
                "other": [draw.randrange(VOCABULARY)],
                "missing": [],
                "new": [token, draw.randrange(VOCABULARY)],
            }[kind]
        drafts.append(draft)
    return drafts


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sampling", [SAMPLED, NARROW, GREEDY], ids=["all", "top-p", "greedy"])
def test_no_draft_changes_a_token(name, sampling):
    model = MODELS[name]()
    plain, _ = run(model, 15, 6, (), sampling)
    for share in (0.0, 0.05, 0.3, 1.0):
        drafts = edited(plain, share)
        drafts[3], drafts[4] = [], plain[5]
        assert run(model, 15, 6, drafts, sampling)[0] == plain
    assert run(model, 15, 1, edited(plain, 0.1), sampling)[0] == plain


def test_many_tokens_are_those_without_drafts():
    model, count = llama().eval(), 400
    plain, _ = run(model, count, 32, ())
    made, _ = run(model, count, 32, edited(plain, 0.1))
    assert sum(map(len, plain)) > 5_000
    assert made == plain


def test_what_comes_true_takes_few_passes_and_what_does_not_hardly_any_more():
    model = llama().eval()
    plain, before = run(model, 32, 8, ())
    _, exact = run(model, 32, 8, plain)
    _, near = run(model, 32, 8, edited(plain, 0.05))
    _, wrong = run(model, 32, 8, edited(plain, 1.0))
    assert len(exact) < 0.3 * len(before)
    assert len(near) < 0.6 * len(before)
    tokens = sum(rows * width for rows, width, _ in before)
    assert sum(rows * width for rows, width, _ in wrong) < 1.3 * tokens
    assert len(wrong) <= len(before)


def test_wrong_guesses_leave_the_cache():
    model = llama().eval()
    plain, before = run(model, 64, 4, ())
    _, shapes = run(model, 64, 4, edited(plain, 0.15))
    longest = max(length for _, _, length in before)
    widest = max(tokens for _, tokens, length in shapes if length > longest)
    # 16 places at most stay for what is gone.
    assert max(length for _, _, length in shapes) <= longest + 16 + widest


@pytest.mark.parametrize("name", WITHOUT)
def test_models_that_cannot_take_tokens_back_go_without_drafts(name):
    model = WITHOUT[name]()
    plain, before = run(model, 12, 4, ())
    made, after = run(model, 12, 4, plain)
    assert (made, after) == (plain, before)


def test_a_row_joins_its_draft_again_nearest_to_its_own_length():
    drafts = Drafts([[5, 6, 7, 8, 9, 6, 10]])
    emitted: list[int] = []
    for token in (5, 4, 6):
        emitted.append(token)
        drafts.follow(0, emitted)
    # 6 stands at the second place and at the sixth; three tokens are emitted.
    assert drafts.guesses([0]) == [[7, 8, 9, 6, 10]]


def test_as_many_guesses_as_come_true():
    right, wrong = Drafts([list(range(40))] * 2), Drafts([list(range(40))] * 2)
    for place in range(20):
        right.follow(0, [place])
        wrong.follow(0, [place + 1 if place % 2 else place])
    assert len(right.guesses([1])[0]) == 32
    assert len(wrong.guesses([1])[0]) <= 8
    assert len(right.guesses([1] * 128)[0]) < 4  # Logits are there for 512 places at a time.
    assert Drafts([[]]).guesses([0]) == []
