"""Requests in blocks: what a share of them asks is what a model that is asked all asks as well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tspin.errors import InputError
from tspin.harness.blocks import BlockwiseModel, ReplayedModel, joined_answers

REQUESTS = [SimpleNamespace(number=number) for number in range(21)]


class Listening:
    """Answers with the requests' numbers, and notes what it was asked at once."""

    tokenizer_name = "its own"

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        assert disable_tqdm
        self.asked.append([request.number for request in requests])
        return [(-float(request.number), request.number % 2 == 0) for request in requests]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.asked.append([request.number for request in requests])
        return [str(request.number) for request in requests]


def asked(model: Listening, index: int = 0, count: int = 1, **given: Any) -> BlockwiseModel:
    settings = {"batch_size": 2, "together": False, "seed": 0, **given}
    return BlockwiseModel(model, holds=lambda block: block % count == index, **settings)


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_shares_ask_the_blocks_of_one(kind: str) -> None:
    alone = Listening()
    whole = asked(alone)
    answers = getattr(whole, kind)(REQUESTS)
    size = 2 if kind == "generate_until" else 8
    assert [len(block) for block in alone.asked] == [size] * (21 // size) + [21 % size]
    assert [number for block in alone.asked for number in block] == [*range(21)]
    shares, blocks = [], []
    for index in range(3):
        model = Listening()
        share = asked(model, index, 3)
        own = getattr(share, kind)(REQUESTS)
        assert [one for one in own if one is not None] == [
            answers[number] for block in model.asked for number in block
        ]
        shares.append(share.shares)
        blocks += model.asked
    assert sorted(blocks) == alone.asked
    joined = joined_answers(shares[::-1], "some task")
    assert joined == whole.shares
    assert getattr(ReplayedModel(joined, "some task"), kind)(REQUESTS) == answers


def test_blocks_of_a_share_are_asked_together_where_batches_have_no_bits_to_keep() -> None:
    model = Listening()
    answers = asked(model, 1, 2, together=True).generate_until(REQUESTS)
    assert model.asked == [[2, 3, 6, 7, 10, 11, 14, 15, 18, 19]]
    assert answers[2:4] == ["2", "3"]
    assert answers[:2] == [None, None]


def test_a_share_of_nothing_asks_nothing() -> None:
    model = Listening()
    share = asked(model, 3, 4, together=True)
    assert share.loglikelihood(REQUESTS) == [None] * 21
    assert model.asked == []
    assert share.tokenizer_name == "its own"


def test_shares_that_make_no_whole_are_refused() -> None:
    def share(index: int, requests: list[Any], **given: Any) -> dict[str, Any]:
        model = asked(Listening(), index, 2, **given)
        model.loglikelihood(requests)
        return model.shares

    first = share(0, REQUESTS)
    with pytest.raises(InputError, match="one shard has 20 requests of the kind loglikelihood"):
        joined_answers([first, share(1, REQUESTS[:20])], "some task")
    with pytest.raises(InputError, match="one shard has 16 requests a block"):
        joined_answers([first, share(1, REQUESTS, batch_size=4)], "some task")
    missing = ReplayedModel(joined_answers([first], "some task"), "some task")
    with pytest.raises(InputError, match="have 13 answers to 21 requests"):
        missing.loglikelihood(REQUESTS)
    with pytest.raises(InputError, match="have 0 answers to 21 requests"):
        missing.generate_until(REQUESTS)
