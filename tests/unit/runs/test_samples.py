"""What a report shows of an annotation: all of the turn, whatever it consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tspin.records.records import Triplet, write_records
from tspin.runs.folder import RunFolder
from tspin.runs.samples import training_samples

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich"}}}


@pytest.mark.parametrize(
    ("turn", "shown"),
    [
        ({"annotated": "5"}, ["5"]),
        ({"annotated": "", "annotated_tool_calls": [CALL]}, ["weather", "Zürich"]),
        (
            {"annotated": "5", "annotated_reasoning_content": "2 and 3"},
            ["<think>\n2 and 3\n</think>\n5"],
        ),
    ],
    ids=["text", "call", "thought"],
)
def test_a_whole_turn_is_shown(tmp_path: Path, turn: dict[str, object], shown: list[str]) -> None:
    prompt = {"id": "1", "prompt": "p", "synthetic": "s", "proto_synthetic": "s"}
    folder = RunFolder(tmp_path)
    folder.iteration(0).triplets.parent.mkdir(parents=True)
    write_records(folder.iteration(0).triplets, [Triplet.model_validate(prompt | turn)])
    (sample,) = training_samples(folder, [0], count=1)
    annotation = sample.responses[0]
    assert annotation.role == "annotated"
    assert all(text in annotation.text for text in shown)
    assert annotation.text
