from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tspin.records.records import Message, Triplet, write_records
from tspin.tokens.examples import ROLES, Example, Examples, load_examples
from tspin.tokens.examples.packed import PackedExamples
from tspin.tokens.prompts import PromptTemplate

ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(
    lambda values: np.array(values, dtype=np.int32)
)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    samples, others = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    responses = tuple(draw(ids) for _ in range(1 + samples + others))
    teacher = draw(st.none() | ids)
    return Example(draw(st.text("aü", max_size=3)), draw(ids), responses, samples, teacher)


def plain(example: Example) -> tuple[object, ...]:
    prompts = (example.prompt, example.teacher_prompt)
    return (
        example.id,
        [None if one is None else one.tolist() for one in prompts],
        [response.tolist() for response in example.responses],
        example.samples,
    )


@given(st.lists(examples(), max_size=5))
def test_examples_are_given_back(rows: list[Example]) -> None:
    packed = PackedExamples(rows)
    expected = [plain(row) for row in rows]
    assert [plain(row) for row in packed] == expected
    assert [plain(packed[at - len(rows)]) for at in range(len(rows))] == expected
    assert [plain(row) for row in packed[1:]] == expected[1:]
    with pytest.raises(IndexError):
        packed[len(rows)]
    for row in packed:
        assert {row.prompt.dtype, *(one.dtype for one in row.responses)} == {np.dtype(np.int32)}


@given(st.lists(examples(), min_size=1, max_size=5), st.integers(0, 3))
def test_mean_lengths_are_means_over_the_samples(rows: list[Example], role: int) -> None:
    rows = [replace(row, responses=(*row.responses, row.prompt, row.prompt)) for row in rows]
    of_each = [
        sum(len(row.of_sample(sample)[role]) for sample in range(row.samples)) / row.samples
        for row in rows
    ]
    assert PackedExamples(rows).mean_lengths(role).tolist() == of_each


@given(st.lists(examples(), min_size=1, max_size=5))
def test_the_extremes_are_by_the_longest_sequence(rows: list[Example]) -> None:
    dataset = Examples(rows)
    by_length = sorted(rows, key=lambda row: row.length)
    expected = [(row.prompt.tolist(), plain(row)[2]) for row in (by_length[0], by_length[-1])]
    assert dataset.extremes() == expected
    assert dataset.shortest()["id"] == by_length[0].id
    sizes = [(row.packed_length, row.length, len(row.responses)) for row in rows]
    assert list(dataset.sizes()) == sizes
    assert list(dataset.sizes()[1:]) == sizes[1:]


def test_a_prompt_of_several_examples_is_held_once() -> None:
    long = np.arange(10_000, dtype=np.int32)
    first = Example("a", long, (np.array([1], dtype=np.int32),))
    packed = PackedExamples([first, replace(first, responses=(long[:2],)), first])
    assert packed.nbytes < long.nbytes + 1000
    other = PackedExamples([first, replace(first, teacher_prompt=long[:3]), first])
    taught = [None if row.teacher_prompt is None else len(row.teacher_prompt) for row in other]
    assert taught == [None, 3, None]
    assert all(np.array_equal(row.prompt, long) for row in (*packed, *other))


def test_memory_is_that_of_the_tokens(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Besides its tokens and its id a record takes no more than 100 bytes, and no objects.

    While a file is read, a hash of each id is held too.
    """
    template = PromptTemplate.load(tiny_tokenizer, "instruction")

    def held(count: int) -> tuple[tuple[int, int], Examples]:
        path = tmp_path / f"{count}.jsonl"
        texts = {"annotated": "Paris", "synthetic": "Athens", "proto_synthetic": "So the city"}
        question = [Message(role="user", content="Name a city.")]
        rows = (Triplet(id=f"{at:016x}", messages=question, **texts) for at in range(count))
        write_records(path, rows)
        gc.collect()
        tracemalloc.start()
        loaded = load_examples(path, template, roles=ROLES, max_length=100, over_long="error")
        gc.collect()
        traced = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return traced, loaded

    held(10)  # What is made once, such as a compiled template.
    (few, _), (many, loaded) = held(200), held(1200)
    row = loaded.rows[0]
    tokens = len(row.prompt) + sum(map(len, row.responses))
    expected = 4 * tokens + len(row.id) + 100
    now, peak = ((large - small) / 1000 for small, large in zip(few, many, strict=True))
    # Buffers grow by an eighth at a time, so up to that much of them may be empty.
    assert now < 1.125 * expected
    assert peak < 1.125 * expected + 200
    assert loaded.nbytes / 1200 < expected
