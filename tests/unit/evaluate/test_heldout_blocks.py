"""Blocks of held-out records are the groups that an engine answers together."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tspin.engines import BATCHES_A_GROUP
from tspin.evaluate.heldout import Heldout
from tspin.generate.plan import ResponsePlan
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.tokens.prompts import PromptTemplate


def no_draft(_: str) -> tuple[int, ...]:
    return ()


def test_a_block_is_a_group_of_the_engine(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    template = PromptTemplate.load(tiny_tokenizer, "instruction")
    records = [
        AnnotatedRecord(
            id=f"r{(7 * at) % 23}",
            messages=[Message(role="user", content="apples " * (at % 6))],
            response="46",
        )
        for at in range(23)
    ]
    path = tmp_path / "heldout.jsonl"
    write_records(path, records)
    heldout = Heldout.read(
        path, template, max_records=None, max_length=200, max_new_tokens=8, over_long="error"
    )
    size = BATCHES_A_GROUP * 2
    blocks = heldout.blocks(size)
    plan = ResponsePlan.of(
        records, template, seed_of=lambda _: 0, max_prompt=192, over_long="error"
    )
    requests = plan.requests((), no_draft)
    groups = []
    while group := [request.id for request in islice(requests, size)]:
        groups.append(group)
    assert [len(group) for group in groups] == [8, 8, 7]
    assert groups == [[i for i in chain(*groups) if blocks[i] == at] for at in range(3)]
    # What a shard asks for are whole groups.
    own = heldout.only({identity for identity, block in blocks.items() if block % 2 == 0})
    part = ResponsePlan.of(
        own.records, template, seed_of=lambda _: 0, max_prompt=192, over_long="error"
    )
    assert [request.id for request in part.requests((), no_draft)] == [*groups[0], *groups[2]]
    assert [record.id for record in own.records] == [
        record.id for record in records if blocks[record.id] != 1
    ]
