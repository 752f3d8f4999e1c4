"""Which of a policy's responses are right, and trained on."""

from __future__ import annotations

import pytest

from tspin.errors import InputError
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, FurtherSample, Message, Triplet
from tspin.records.samples import (
    all_samples,
    right_samples,
    selection,
    with_demonstration,
)

SAID = [
    "3 + 4 = 7",
    "3 + 4 = 8",  # Wrong.
    "Seven is 4 + 3 = 7",
    "3 + 4 =  7",  # The first once more.
    "It is 7.",  # The annotation.
    "Count: 5, 6, 7",
    "",
]
TRIPLET = Triplet.model_validate(
    {
        "id": "a",
        "prompt": "3 + 4?",
        "annotated": "It is 7.",
        "synthetic": SAID[0],
        "proto_synthetic": "7",
        "further_synthetic": [
            *({"response": text} for text in SAID[1:]),
            {"response": "so 2 + 5 = 7", "finish_reason": "length"},
        ],
    }
)


def right(most: int | None) -> list[str]:
    extract = find_extractor("last_number")
    samples = right_samples("It is 7.", all_samples(TRIPLET), extract, most=most)
    return [sample.response for sample in samples]


def test_right_samples_each_once_and_at_most_so_many() -> None:
    whole = ["3 + 4 = 7", "Seven is 4 + 3 = 7", "Count: 5, 6, 7"]
    assert right(None) == right(3) == whole
    assert right(2) == whole[:2]


def test_an_annotation_without_an_answer_has_no_right_samples() -> None:
    samples = [FurtherSample(response="no number"), FurtherSample(response="7")]
    assert right_samples("none here", samples, find_extractor("last_number"), most=None) == []


def test_only_rft_selects_and_needs_an_extractor() -> None:
    assert selection("spin", "last_number", 2) is None
    chosen = selection("rft", "last_number", 1)
    assert chosen is not None
    assert [sample.response for sample in chosen(TRIPLET)] == ["3 + 4 = 7"]
    with pytest.raises(InputError, match=r"method 'rft' needs train\.rft_extractor"):
        selection("rft", None, None)


def test_a_demonstration_is_all_of_the_annotation() -> None:
    calls = [{"type": "function", "function": {"name": "w", "arguments": {}}}]
    turns = [Message(role="system", content="Be {brief}."), Message(role="user", content="{x}?")]
    record = AnnotatedRecord(
        id="a", messages=turns, response="7", reasoning_content="Look.", tool_calls=calls
    )
    joined = Triplet(
        id="a",
        messages=turns,
        annotated="7",
        annotated_reasoning_content="Look.",
        annotated_tool_calls=calls,
        synthetic="8",
        proto_synthetic="9",
    )
    for one in (record, joined):
        shown = with_demonstration(one, "{prompt} Such as: {demonstration} {{so}}")
        assert shown.messages[0] == turns[0]
        call = '{"type": "function", "function": {"name": "w", "arguments": {}}}'
        assert shown.messages[1].content == f"{{x}}? Such as: Look.\n7\n{call} {{so}}"
        assert one.messages == turns
    plain = AnnotatedRecord(id="a", messages=turns, response="7")
    shown = with_demonstration(plain, "{demonstration}|{prompt}")
    assert shown.messages[1].content == "7|{x}?"
