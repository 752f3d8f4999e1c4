from __future__ import annotations

import doctest
from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tspin.tokens.compact
from tspin.tokens.compact import Places, Ragged, Texts


def test_examples_of_the_docstrings() -> None:
    results = doctest.testmod(tspin.tokens.compact)
    assert results.attempted >= 7
    assert results.failed == 0


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5)))
def test_sequences_are_given_back(rows: list[list[int]]) -> None:
    sequences = Ragged("i")
    for row in rows:
        sequences.append(row)
    assert [sequences[index].tolist() for index in range(len(sequences))] == rows
    assert sequences.lengths().tolist() == [len(row) for row in rows]
    assert sequences.nbytes == 4 * sum(map(len, rows)) + 8 * (len(rows) + 1)


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_texts_are_given_back(rows: list[str]) -> None:
    texts = Texts()
    for row in rows:
        texts.append(row)
    assert list(texts) == rows


def test_what_is_read_can_neither_change_nor_move() -> None:
    sequences = Ragged("i")
    sequences.append([5, 6])
    view = sequences[0]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 7
    with pytest.raises(BufferError):
        sequences.append([8])
    assert np.shares_memory(view, sequences[0])


class Colliding:
    """Has the same hash as all of its kind, and equals those of its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return -7


@given(st.lists(st.text(max_size=2)), st.text(max_size=2))
def test_places_are_all_those_of_an_entry(entries: list[str], sought: str) -> None:
    places = Places(entries)
    for entry in (*entries, sought):
        assert places.of(entry) == [at for at, one in enumerate(entries) if one == entry]
    again = [at for at, one in enumerate(entries) if one in entries[:at]]
    assert places.repeated() == again


def test_entries_with_one_hash_are_all_candidates() -> None:
    entries: list[Hashable] = ["x", Colliding("a"), Colliding("b"), "y", Colliding("a")]
    places = Places(entries)
    assert places.of(Colliding("b")) == [1, 2, 4]
    assert places.repeated() == [2, 4]
    assert places.of("y") == [3]
