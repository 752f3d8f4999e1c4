from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from tspin.config import Method, TrainConfig
from tspin.errors import InputError
from tspin.records.records import (
    AnnotatedRecord,
    FurtherSample,
    Message,
    Triplet,
    write_records,
)
from tspin.records.samples import EARLIER
from tspin.tokens.examples import ROLES, Examples, load_examples, roles_of
from tspin.tokens.prompts import PromptTemplate

QUESTION = [Message(role="user", content="Name a city.")]


@pytest.fixture(scope="module")
def template(tiny_tokenizer: PreTrainedTokenizerFast) -> PromptTemplate:
    return PromptTemplate.load(tiny_tokenizer, "instruction")


def triplet(identity: str = "a", **changes: Any) -> Triplet:
    texts = {"annotated": "Paris", "synthetic": "Athens", "proto_synthetic": "46"}
    return Triplet.model_validate({"id": identity, "messages": QUESTION} | texts | changes)


def load(path: Path, template: PromptTemplate, **settings: object) -> Examples:
    defaults = {"roles": ROLES, "max_length": 100, "over_long": "error"}
    return load_examples(path, template, **(defaults | settings))


@pytest.mark.parametrize(
    ("method", "by_iteration"),
    [
        ("sft", [ROLES[:1]] * 4),
        ("spin", [ROLES[:2]] * 4),
        ("tspin_no_history", [ROLES[:2]] * 4),
        ("tspin", [ROLES[:2], *[ROLES] * 3]),
        ("tspin_all", [ROLES[:2], ROLES, (*ROLES, EARLIER), (*ROLES, EARLIER, EARLIER)]),
    ],
)
def test_roles_are_what_the_loss_reads(method: Method, by_iteration: list[Any]) -> None:
    train = TrainConfig(method=method)
    assert [roles_of(train, iteration) for iteration in range(4)] == by_iteration


def test_responses_of_earlier_policies_come_last(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    earlier = [FurtherSample(response=text) for text in ("Rome", "So is 46 and 12")]
    further = [FurtherSample(response="the city")]
    write_records(path, [triplet(further_synthetic=further, earlier_synthetic=earlier)])
    roles = roles_of(TrainConfig(method="tspin_all"), 3)
    examples = load(path, template, roles=roles)
    first, second = examples.items(0)
    assert [key for key in first if key.endswith("_ids")] == [
        "prompt_ids",
        "annotated_ids",
        "synthetic_ids",
        "proto_synthetic_ids",
        "earlier_synthetic_1_ids",
        "earlier_synthetic_2_ids",
    ]
    assert second["synthetic_ids"] == template.response_ids("the city")
    for item in (first, second):
        assert item["earlier_synthetic_1_ids"] == template.response_ids("Rome")
        assert item["earlier_synthetic_2_ids"] == template.response_ids("So is 46 and 12")
    assert examples.shape == (2, 5)
    with pytest.raises(InputError, match=r"6 in 'earlier_synthetic', more"):
        load(path, template, roles=roles, max_length=len(first["prompt_ids"]) + 4)
    for iteration, count in ((2, 1), (4, 3)):
        with pytest.raises(InputError, match=f"2 responses in .* needs {count} in this iteration"):
            load(path, template, roles=roles_of(TrainConfig(method="tspin_all"), iteration))
    # Another method reads none of them.
    assert examples.shape > load(path, template).shape == (2, 3)


def test_item_is_what_the_collator_takes(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    write_records(path, [triplet()])
    examples = load(path, template, roles=ROLES[:2])
    end = template.end_token_id
    item = examples[0]
    assert item == {
        "id": "a",
        "prompt_ids": template.prompt_ids(QUESTION),
        "annotated_ids": template.response_ids("Paris"),
        "synthetic_ids": template.response_ids("Athens"),
        "proto_synthetic_ids": None,
        "reference_logps": None,
    }
    assert item["annotated_ids"].count(end) == item["synthetic_ids"].count(end) == 1
    examples.reference_logps = np.array([[-1.5, -2.0]])
    assert examples[0]["reference_logps"] == [-1.5, -2.0]


def test_cut_off_response_has_no_end_token(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    write_records(path, [triplet(synthetic_finish_reason="length", proto_synthetic="")])
    item = load(path, template)[0]
    assert item["synthetic_ids"] == template.response_ids("Athens", finished=False)
    assert template.end_token_id not in item["synthetic_ids"]
    assert item["proto_synthetic_ids"] == [template.end_token_id]


def test_special_tokens_of_a_sample_are_trained_as_such(
    tmp_path: Path, template: PromptTemplate
) -> None:
    path = tmp_path / "t.jsonl"
    special = {"synthetic": "A<s>A", "synthetic_special_tokens": 1}
    row = triplet(proto_synthetic="A<s>A", **special)
    write_records(path, [row])
    (example,) = load(path, template).rows
    begin = template.prompt_ids(QUESTION)[0]  # <s>
    assert [list(ids).count(begin) for ids in example.responses] == [0, 1, 0]


def test_an_annotation_that_the_model_would_stop_in_is_refused(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    city = tiny_tokenizer.convert_tokens_to_ids("Ġcity")
    template = PromptTemplate.load(tiny_tokenizer, "auto", generation=[2, city])
    path = tmp_path / "t.jsonl"
    write_records(path, [triplet(annotated="A"), triplet("b", annotated="A city is")])
    with pytest.raises(InputError, match=r"t\.jsonl:2: record 'b': .* contains 'Ġcity', at which"):
        load(path, template)
    assert len(load(path, PromptTemplate.load(tiny_tokenizer, "auto"))) == 2


def test_limit_is_on_prompt_and_longest_response(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    write_records(path, [triplet(), triplet("b", proto_synthetic="So the city is Athens")])
    prompt = len(template.prompt_ids(QUESTION))
    longest = len(template.response_ids("So the city is Athens"))
    assert len(load(path, template, max_length=prompt + longest)) == 2
    limit = prompt + longest - 1
    with pytest.raises(InputError, match=r"t\.jsonl:2: record 'b' has .*'proto_synthetic'"):
        load(path, template, max_length=limit)
    kept = load(path, template, max_length=limit, over_long="drop")
    assert ([row.id for row in kept.rows], kept.dropped) == (["a"], ["b"])
    assert len(load(path, template, max_length=limit, roles=ROLES[:2])) == 2  # y0 is not read
    with pytest.raises(InputError, match="no records that fit"):
        load(path, template, max_length=5, over_long="drop")


def test_annotated_records_for_one_role(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, [AnnotatedRecord(id="a", messages=QUESTION, response="Paris")])
    examples = load(path, template, roles=ROLES[:1])
    assert examples[0]["annotated_ids"] == template.response_ids("Paris")
    with pytest.raises(InputError, match=r"a\.jsonl:1: .*'(response|annotated)'"):
        load(path, template)


@pytest.mark.parametrize("content", [b"", b"{not json\n"])
def test_broken_file(tmp_path: Path, template: PromptTemplate, content: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    for roles in (ROLES, ROLES[:1]):
        with pytest.raises(InputError, match=r"t\.jsonl"):
            load(path, template, roles=roles)


def test_each_sample_is_an_item_of_its_prompt(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    further = [{"response": "Rome"}, {"response": "Oslo 46", "finish_reason": "length"}]
    write_records(path, [triplet(further_synthetic=further), triplet("b")])
    examples = load(path, template)
    assert len(examples) == 2
    assert examples.shape == (4, 3)
    assert (examples.places([1]), examples.places([1, 0])) == ([3], [3, 0, 1, 2])
    items = examples.items(0)
    cut_off = template.response_ids("Oslo 46", finished=False)
    synthetic = [template.response_ids("Athens"), template.response_ids("Rome"), cut_off]
    assert [item["synthetic_ids"] for item in items] == synthetic
    assert [item["sample"] for item in items] == [0, 1, 2]
    for role in ("annotated_ids", "proto_synthetic_ids", "prompt_ids"):
        assert items[0][role] == items[1][role] == items[2][role] == examples[0][role]
    assert "sample" not in examples.items(1)[0]
    assert examples.mean_length(1) == (sum(map(len, synthetic)) / 3 + len(synthetic[0])) / 2
    examples.reference_logps = np.arange(12.0).reshape(4, 3)
    assert [item["reference_logps"][0] for item in examples.items(0)] == [0.0, 3.0, 6.0]
    assert examples[1]["reference_logps"] == [9.0, 10.0, 11.0]


def test_a_teacher_has_a_prompt_of_its_own(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "t.jsonl"
    write_records(path, [triplet(further_synthetic=[FurtherSample(response="46")])])
    train = TrainConfig(method="sdft", sdft_template="{prompt} {demonstration} is a city.")
    told = {"roles": roles_of(train, 3), "demonstration": train.demonstration}
    examples = load(path, template, **told)
    turn = Message(role="user", content="Name a city. Paris is a city.")
    expected = template.prompt_ids([turn])
    for item in examples.items(0):
        assert item["teacher_prompt_ids"] == expected
        assert item["prompt_ids"] == template.prompt_ids(QUESTION)
    row = examples.rows[0]
    longest = max(len(response) for response in row.responses)
    assert row.length == len(expected) + longest
    assert row.packed_length == len(expected) + sum(len(r) - 1 for r in row.responses)
    assert len(load(path, template, **told, max_length=row.length)) == 1
    with pytest.raises(
        InputError, match=r"annotation for the teacher \(train\.sdft_template\) and"
    ):
        load(path, template, **told, max_length=row.length - 1)
