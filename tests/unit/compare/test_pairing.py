"""Paired differences, worked out by hand."""

import math
from pathlib import Path

import pytest

from tspin.compare.pairing import paired_difference, rightness
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, Message, Response, write_records


def test_a_difference_pairs_records_and_averages_seeds_first() -> None:
    def right(*values: float) -> dict[str, tuple[float, int]]:
        return {name: (value, 1) for name, value in zip("abcd", values, strict=True)}

    one, two = (right(1, 1, 0, 1), right(0, 1, 0, 0)), (right(1, 0, 0, 1), right(0, 1, 0, 1))
    found = paired_difference([one, two], confidence=0.95)
    # By record: a (1 + 1) / 2, b (0 - 1) / 2, c 0, d (1 + 0) / 2.
    assert found.value == pytest.approx((1 - 0.5 + 0 + 0.5) / 4)
    deviation = math.sqrt(sum((x - 0.25) ** 2 for x in (1, -0.5, 0, 0.5)) / 3 / 4)
    assert found.high == pytest.approx(0.25 + 3.182446 * deviation)
    assert found.n == 4


def test_a_difference_a_token_weighs_records_by_their_tokens() -> None:
    one, other = {"a": (3.0, 1), "b": (9.0, 9)}, {"a": (2.0, 1), "b": (9.0, 9)}
    assert paired_difference([(one, other)], confidence=0.95).value == pytest.approx(0.1)
    with pytest.raises(InputError, match="not of the same records"):
        paired_difference([(one, {"a": (2.0, 1), "b": (9.0, 8)})], confidence=0.95)


def test_evaluations_of_other_records_do_not_pair() -> None:
    with pytest.raises(InputError, match="not of the same records"):
        paired_difference([({"a": (1.0, 1)}, {"b": (1.0, 1)})], confidence=0.95)


def test_an_answer_is_right_where_it_agrees_with_an_annotation_that_has_one(tmp_path: Path) -> None:
    texts = {"a": "1 + 2 = 3", "b": "no equation", "c": "2 + 2 = 4"}
    records = [
        AnnotatedRecord(id=each, messages=[Message(role="user", content="?")], response=text)
        for each, text in texts.items()
    ]
    write_records(tmp_path / "records.jsonl", records)
    made = {"a": "2 + 1 = 3", "b": "1 + 1 = 2", "c": "1 + 2 = 4"}
    answers = [
        Response(
            id=each,
            response=text,
            finish_reason="stop",
            prompt_tokens=1,
            response_tokens=1,
            seed=0,
        )
        for each, text in made.items()
    ]
    write_records(tmp_path / "metrics.greedy.jsonl", answers)
    found = rightness(tmp_path / "metrics.json", tmp_path / "records.jsonl", "equation", "greedy")
    assert found == {"a": (1.0, 1), "c": (0.0, 1)}
