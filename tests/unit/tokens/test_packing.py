"""Packed rows, exactly."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tspin.tokens.packing
from tspin.errors import InputError
from tspin.tokens.packing import PackingCollator, first_fit, pack


def test_the_docstring_shows_what_really_comes_out() -> None:
    results = doctest.testmod(tspin.tokens.packing)
    assert results.attempted == 4
    assert results.failed == 0


def example(prompt: list[int], *responses: list[int] | None) -> dict[str, Any]:
    names = ("annotated_ids", "synthetic_ids", "proto_synthetic_ids")
    given = dict(zip(names, [*responses, None, None], strict=False))
    return {"id": "r", "prompt_ids": prompt, **given}


def test_two_triplets() -> None:
    batch = PackingCollator()(
        [
            example([1, 5], [6, 9, 2], [7, 2], [7, 2]) | {"reference_logps": [-1.0, -2.0, -3.0]},
            example([3], [8, 2], [2], [4, 4, 2]) | {"reference_logps": [-4.0, -5.0, -6.0]},
        ]
    )
    assert batch["input_ids"].tolist() == [[1, 5, 6, 9, 7, 3, 8, 4, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1, 1, 2]]
    assert batch["targets"].tolist() == [6, 9, 2, 7, 2, 8, 2, 2, 4, 4, 2]
    assert batch["predicted_at"].tolist() == [1, 2, 3, 1, 4, 5, 6, 5, 5, 7, 8]
    assert batch["lengths"].tolist() == [3, 2, 2, 1, 3]
    # y of both, then y' of both, then y0 of both.
    assert batch["rows"].tolist() == [0, 2, 1, 3, 1, 4]
    assert batch["reference_logps"].tolist() == [[-1.0, -4.0], [-2.0, -5.0], [-3.0, -6.0]]
    assert "attention_mask" not in batch


def test_without_history_y0_is_not_in_the_row() -> None:
    pair = PackingCollator()([example([1], [6, 2], [7, 2])])
    assert pair["input_ids"].tolist() == [[1, 6, 7]]
    alone = PackingCollator()([example([1], [6, 2])])
    assert alone["input_ids"].tolist() == [[1, 6]]


def test_an_empty_response_has_no_tokens() -> None:
    batch = pack([([1, 5], [[], [6, 2]])])
    assert batch["input_ids"].tolist() == [[1, 5, 6]]
    assert batch["lengths"].tolist() == [0, 2]
    assert batch["targets"].tolist() == [6, 2]


def test_examples_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="record 'r': expected the responses"):
        PackingCollator()([example([1], [2], [3]), example([1], [2])])
    with pytest.raises(InputError, match="record 'r': its prompt has no tokens"):
        PackingCollator()([example([], [2])])


ids = st.lists(st.integers(0, 9), max_size=5)
trees = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.lists(ids, min_size=1)),
    min_size=1,
    max_size=4,
)


@given(trees)
def test_every_response_can_be_read_off_the_row(
    prompted: list[tuple[list[int], list[list[int]]]],
) -> None:
    batch = pack(prompted)
    (row,), (positions,) = batch["input_ids"].tolist(), batch["position_ids"].tolist()
    targets = batch["targets"].split(batch["lengths"].tolist())
    predicted_at = batch["predicted_at"].split(batch["lengths"].tolist())
    wanted = [(prompt, response) for prompt, responses in prompted for response in responses]
    for (prompt, response), which in zip(wanted, batch["rows"].tolist(), strict=True):
        at = predicted_at[which].tolist()
        assert targets[which].tolist() == response
        if response:
            # Each token is predicted where the one before it stands, at its place in the sequence.
            assert [row[t] for t in at] == [prompt[-1], *response][:-1]
            assert [positions[t] for t in at] == list(
                range(len(prompt) - 1, len(prompt) - 1 + len(response))
            )
            assert row[at[0] - len(prompt) + 1 : at[0] + 1] == prompt
    different = [(p, {tuple(r) for r in responses}) for p, responses in prompted]
    assert len(row) == sum(len(p) + sum(max(len(r) - 1, 0) for r in rs) for p, rs in different)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_rows_keep_to_the_budget(tokens: list[int], budget: int) -> None:
    rows = first_fit(range(len(tokens)), lambda item: tokens[item], budget)
    assert sorted(item for row in rows for item in row) == list(range(len(tokens)))
    filled = [sum(tokens[item] for item in row) for row in rows]
    assert all(total <= budget or len(row) == 1 for total, row in zip(filled, rows, strict=True))
    # No row could have been poured into another one.
    assert all(a + b > budget for at, a in enumerate(filled) for b in filled[:at])


def test_first_fit_by_hand() -> None:
    tokens = [5, 9, 4, 1, 30]
    assert first_fit([0, 1, 2, 3, 4], lambda item: tokens[item], 10) == [[4], [1, 3], [0, 2]]


def test_samples_of_a_prompt_are_in_the_row_with_it_once() -> None:
    first = example([1, 5], [6, 9, 2], [7, 2], [8, 2])
    batch = PackingCollator()(
        [
            first | {"sample": 0},
            first | {"sample": 1, "synthetic_ids": [6, 9, 2]},  # As the annotation.
            first | {"sample": 2, "synthetic_ids": [4, 2]},
            example([3], [4, 2], [2], [5, 2]),
        ]
    )
    assert batch["input_ids"].tolist() == [[1, 5, 6, 9, 7, 8, 4, 3, 4, 5]]
    assert batch["lengths"].tolist() == [3, 2, 2, 2, 2, 1, 2]
    # y of all four, then y', then y0.
    assert batch["rows"].tolist() == [0, 0, 0, 4, 1, 0, 3, 5, 2, 2, 2, 6]
    assert batch["weights"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
