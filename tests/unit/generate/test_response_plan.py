from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tspin.errors import InputError
from tspin.generate.drafts import opened_drafts
from tspin.generate.journal import Journal
from tspin.generate.plan import ResponsePlan
from tspin.records.records import AnnotatedRecord, Message, Response, write_records
from tspin.tokens.prompts import PromptTemplate


@pytest.fixture(scope="module")
def template(tiny_tokenizer: PreTrainedTokenizerFast) -> PromptTemplate:
    return PromptTemplate.load(tiny_tokenizer, "instruction")


def record(identity: str, apples: int) -> AnnotatedRecord:
    asked = Message(role="user", content="apple " * apples)
    return AnnotatedRecord(id=identity, messages=[asked], response="y")


def planned(
    records: Iterable[AnnotatedRecord], template: PromptTemplate, samples: int = 1
) -> ResponsePlan:
    return ResponsePlan.of(
        records, template, seed_of=len, max_prompt=99, over_long="drop", samples=samples
    )


@given(
    st.dictionaries(st.text("aäb☃", min_size=1, max_size=3), st.integers(0, 4), max_size=8),
    st.integers(1, 3),
    st.sets(st.integers(0, 23)),
)
def test_work_is_by_length_and_then_by_id(
    template: PromptTemplate, apples: dict[str, int], samples: int, answered: set[int]
) -> None:
    plan = planned((record(*one) for one in apples.items()), template, samples)
    requests = list(plan.requests(answered, lambda key: (key[1],)))
    places = [plan.place_of((one.id, one.sample)) for one in requests]
    in_order = [(one, sample) for one in apples for sample in range(samples)]
    assert len(plan) == len(in_order)
    assert sorted(places) == [at for at in range(len(plan)) if at not in answered]
    assert [in_order[at] for at in places if at is not None] == [
        (one.id, one.sample) for one in requests
    ]
    work = [(-len(one.prompt_ids), one.id, one.sample) for one in requests]
    assert work == sorted(work)
    for one in requests:
        assert list(one.prompt_ids) == template.prompt_ids(record(one.id, apples[one.id]).messages)
        assert one.draft_ids == (one.sample,)
    unasked = [("c", 0), *((one, at) for one in apples for at in (-1, samples))]
    assert [plan.place_of(key) for key in unasked] == [None] * len(unasked)


@pytest.mark.parametrize("apples", [1, 3])
def test_an_id_is_refused_a_second_time(template: PromptTemplate, apples: int) -> None:
    with pytest.raises(InputError, match="two records have the same id"):
        planned([record("a", 1), record("b", 2), record("a", apples)], template)


def test_drafts_are_found_by_id_and_sample(tmp_path: Path, template: PromptTemplate) -> None:
    path = tmp_path / "drafts.jsonl"
    fields = {"finish_reason": "stop", "prompt_tokens": 1, "response_tokens": 1, "seed": 0}
    texts = {("b", 0): "city", ("a", 0): "46", ("a", 1): "apples"}
    rows = [{"id": one, "sample": at, "response": text} for (one, at), text in texts.items()]
    write_records(path, [Response.model_validate(row | fields) for row in rows])
    with opened_drafts(path, template) as draft_of:
        for key, text in texts.items():
            assert list(draft_of(key)) == template.response_ids(text)
        assert draft_of(("b", 1)) == ()


def test_memory_is_that_of_the_tokens(tmp_path: Path, template: PromptTemplate) -> None:
    """Besides its prompt and its id a response takes no more than 60 bytes, and no objects."""

    def held(count: int) -> tuple[int, ResponsePlan]:
        gc.collect()
        tracemalloc.start()
        plan = planned((record(f"{at:016x}", 2) for at in range(count)), template)
        with Journal.opened(tmp_path / f"{count}.jsonl", "key", plan):
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size, plan

    held(10)  # What is made once, such as a compiled template.
    (few, _), (many, plan) = held(200), held(1200)
    (request, *_) = plan.requests((), lambda _: ())
    expected = 4 * len(request.prompt_ids) + len(request.id) + 60
    # Buffers grow by an eighth at a time, so up to that much of them may be empty.
    assert (many - few) / 1000 < 1.125 * expected
    assert plan.nbytes / 1200 < expected
