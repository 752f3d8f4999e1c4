"""Batches, exactly."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tspin.tokens.collator
from tspin.errors import InputError
from tspin.tokens.collator import RESPONSES, TripletCollator


def example(
    prompt: list[int],
    annotated: list[int],
    synthetic: list[int] | None = None,
    proto: list[int] | None = None,
    reference: list[float] | None = None,
) -> dict[str, Any]:
    return {
        "id": "r",
        "prompt_ids": prompt,
        "annotated_ids": annotated,
        "synthetic_ids": synthetic,
        "proto_synthetic_ids": proto,
        "reference_logps": reference,
    }


def test_the_docstring_shows_what_really_comes_out() -> None:
    results = doctest.testmod(tspin.tokens.collator)
    assert results.attempted == 5
    assert results.failed == 0


def test_two_triplets() -> None:
    batch = TripletCollator(pad_token_id=0)(
        [example([1, 5], [6, 2], [7, 8, 2], [2]), example([1], [9, 2], [3, 3, 2], [4, 2])]
    )
    assert batch["input_ids"].tolist() == [
        [1, 5, 6, 2, 0],
        [1, 9, 2, 0, 0],
        [1, 5, 7, 8, 2],
        [1, 3, 3, 2, 0],
        [1, 5, 2, 0, 0],
        [1, 4, 2, 0, 0],
    ]
    assert batch["response_mask"].long().tolist() == [
        [0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0],
    ]
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 3, 5, 4, 3, 3]
    assert batch.keys() == {"input_ids", "attention_mask", "response_mask"}
    assert batch["response_mask"].dtype == torch.bool


def test_sft_has_one_row_an_example() -> None:
    batch = TripletCollator(pad_token_id=0)([example([1], [2]), example([1, 4], [5, 2])])
    assert batch["input_ids"].tolist() == [[1, 2, 0, 0], [1, 4, 5, 2]]


def test_padding_that_is_a_real_token_too_is_told_apart() -> None:
    # Many models pad with their end token.
    batch = TripletCollator(pad_token_id=2)([example([1, 2], [5, 2]), example([1], [2])])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["response_mask"].long().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]


def test_an_empty_response_has_no_response_tokens() -> None:
    batch = TripletCollator(pad_token_id=0)([example([1, 5], [6, 2], [])])
    assert batch["response_mask"].sum(dim=1).tolist() == [2, 0]


def test_lengths_are_rounded_up() -> None:
    examples = [example([1], [2])]
    assert TripletCollator(0, pad_to_multiple_of=8)(examples)["input_ids"].shape == (1, 8)
    assert TripletCollator(0)(examples)["input_ids"].shape == (1, 2)


def test_reference_logps_are_a_row_a_response() -> None:
    batch = TripletCollator(0)(
        [example([1], [2], [3], None, [-1.0, -2.0]), example([1], [2], [3], None, [-3.0, -4.0])]
    )
    assert batch["reference_logps"].tolist() == [[-1.0, -3.0], [-2.0, -4.0]]


def test_examples_that_do_not_go_together_are_refused() -> None:
    collate = TripletCollator(0)
    with pytest.raises(InputError, match="record 'r': expected the responses"):
        collate([example([1], [2], [3]), example([1], [2])])
    with pytest.raises(InputError, match="record 'r': its prompt has no tokens"):
        collate([example([], [2])])


ids = st.lists(st.integers(0, 9), max_size=6)
prompts = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(st.lists(st.tuples(prompts, ids, ids, ids), min_size=1, max_size=4), st.integers(1, 8))
def test_every_row_gives_its_tokens_back(
    rows: list[tuple[list[int], list[int], list[int], list[int]]], multiple: int
) -> None:
    examples = [example(*row) for row in rows]
    batch = TripletCollator(0, pad_to_multiple_of=multiple)(examples)
    wanted = [(e["prompt_ids"], e[key]) for key in RESPONSES for e in examples]
    assert batch["input_ids"].shape[1] % multiple == 0
    for (prompt, response), row, attended, supervised in zip(
        wanted, batch["input_ids"], batch["attention_mask"], batch["response_mask"], strict=True
    ):
        assert row[attended.bool()].tolist() == prompt + response
        assert row[supervised].tolist() == response
        assert row[attended.bool() & ~supervised].tolist() == prompt
        assert (row[~attended.bool()] == 0).all()


def test_samples_of_a_prompt_share_y_and_y0() -> None:
    first = example([1, 5], [6, 2], [7, 2], [8, 2], [-1.0, -2.0, -3.0])
    second = first | {"synthetic_ids": [9, 2], "reference_logps": [-1.0, -4.0, -3.0]}
    other = example([3], [4, 2], [2], [4, 4, 2], [-5.0, -6.0, -7.0])
    batch = TripletCollator(pad_token_id=0)([first | {"sample": 0}, second | {"sample": 1}, other])
    assert batch["input_ids"].tolist() == [
        [1, 5, 6, 2],
        [3, 4, 2, 0],
        [1, 5, 7, 2],
        [1, 5, 9, 2],
        [3, 2, 0, 0],
        [1, 5, 8, 2],
        [3, 4, 4, 2],
    ]
    assert batch["rows"].tolist() == [0, 0, 1, 2, 3, 4, 5, 5, 6]
    assert batch["weights"].tolist() == [0.5, 0.5, 1.0]
    assert batch["reference_logps"].tolist() == [[-1, -1, -5], [-2, -4, -6], [-3, -3, -7]]


def test_responses_of_earlier_policies_are_rows_of_their_own() -> None:
    first = example([1, 5], [6, 2], [7, 2], [8, 2]) | {"earlier_synthetic_1_ids": [3, 2]}
    second = first | {"synthetic_ids": [9, 2]}
    batch = TripletCollator(pad_token_id=0)([first | {"sample": 0}, second | {"sample": 1}])
    assert batch["input_ids"][:, 2].tolist() == [6, 7, 9, 8, 3]
    assert batch["rows"].view(4, 2).tolist() == [[0, 0], [1, 2], [3, 3], [4, 4]]
    with pytest.raises(InputError, match="expected the responses"):
        TripletCollator(0)([first, example([1, 5], [6, 2], [7, 2], [8, 2])])
