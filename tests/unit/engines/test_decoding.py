"""Decoding of many rows: each as if it were alone, and no work that need not be done."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from tiny_models import VOCABULARY, llama
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

from tspin.engines import SamplingParams
from tspin.engines.decoding import decode
from tspin.engines.sampling import RowSampler

SAMPLED = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=1)
PAD = 0

Prompts = list[tuple[int, ...]]


def mistral() -> MistralForCausalLM:
    """A model that looks back over 8 tokens only, and keeps no more of them."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
        initializer_range=0.5,
    )
    return MistralForCausalLM(config)


def make_prompts(count: int, shared: int = 0) -> Prompts:
    draw = random.Random(1)
    beginning = [draw.randrange(1, VOCABULARY) for _ in range(shared)]
    return [
        (*beginning, *(draw.randrange(1, VOCABULARY) for _ in range(draw.randint(1, 20))))
        for _ in range(count)
    ]


class Ending:
    """Ends a row by its last token, which is drawn, so that nothing is told about rows."""

    def __call__(self, emitted: Sequence[int]) -> bool:
        return emitted[-1] % 7 == 0 or len(emitted) == 40


def run(
    model: PreTrainedModel,
    prompts: Prompts,
    width: int,
    ended: Callable[[Sequence[int]], bool],
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """What was emitted, and the shape of each forward pass."""
    shapes: list[tuple[int, int]] = []

    def note(_: object, __: object, given: dict[str, torch.Tensor]) -> None:
        rows, tokens = given["input_ids"].shape
        shapes.append((rows, tokens))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    sampler = RowSampler(SAMPLED, range(100, 100 + len(prompts)), torch.device("cpu"))
    emitted = decode(
        model.eval(), prompts, width=width, pad_token_id=PAD, sampler=sampler, ended=ended
    )
    hook.remove()
    return emitted, shapes


def alone(model: PreTrainedModel, prompts: Prompts) -> list[list[int]]:
    """The definition: one row after another, without padding and without a cache."""
    made = []
    for row, prompt in enumerate(prompts):
        sampler = RowSampler(SAMPLED, [100 + row], torch.device("cpu"))
        ids = list(prompt)
        while len(ids) == len(prompt) or not Ending()(ids[len(prompt) :]):
            with torch.inference_mode():
                logits = model.eval()(torch.tensor([ids]), use_cache=False).logits[:, -1]
            ids.append(int(sampler.draw(logits, [0])))
        made.append(ids[len(prompt) :])
    return made


@pytest.mark.parametrize("make", [llama, mistral])
@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("width", [1, 5, 64])
def test_rows_come_out_as_if_each_were_alone(make, shared, width) -> None:
    model, prompts = make(), make_prompts(23, shared)
    emitted, _ = run(model, prompts, width, Ending())
    assert emitted == alone(model, prompts)
    assert len({len(row) for row in emitted}) > 5


def test_a_shared_beginning_is_computed_once() -> None:
    prompts = make_prompts(16, shared=40)
    _, shapes = run(llama(), prompts, 16, Ending())
    longest = max(map(len, prompts))
    beginnings = [shape for shape in shapes if shape[1] > 1][:2]
    assert beginnings[0][0] == 1
    assert beginnings[0][1] >= 40
    assert sum(tokens for _, tokens in beginnings) == longest
    # A window would count the padding between the beginning and the rest.
    _, shapes = run(mistral(), prompts, 16, Ending())
    assert shapes[0] == (16, longest)


def test_no_beginning_is_split_off_where_it_saves_little() -> None:
    prompts = make_prompts(3, shared=10)
    _, shapes = run(llama(), prompts, 3, Ending())
    assert shapes[0] == (3, max(map(len, prompts)))


def test_waiting_rows_take_the_places_of_ended_ones() -> None:
    prompts = make_prompts(64)
    emitted, shapes = run(llama(), prompts, 8, Ending())
    steps = [rows for rows, tokens in shapes if tokens == 1]
    needed = sum(len(row) - 1 for row in emitted)  # The first comes from the prompt.
    assert sum(steps) == needed  # No row is computed after its end.
    in_batches = sum(max(map(len, emitted[at : at + 8])) - 1 for at in range(0, 64, 8))
    assert len(steps) < 0.75 * in_batches
    assert max(rows for rows, _ in shapes) == 8
