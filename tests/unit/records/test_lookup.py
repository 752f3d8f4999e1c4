from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin.errors import InputError
from tspin.records.lookup import ResponseLookup
from tspin.records.manifest import Manifest
from tspin.records.records import Response, write_records


def response(identity: str, sample: int = 0) -> Response:
    return Response(
        id=identity,
        response=f"{identity}{sample}",
        finish_reason="stop",
        prompt_tokens=3,
        response_tokens=2,
        seed=1,
        sample=sample,
    )


def texts(lookup: ResponseLookup, asked: str) -> list[list[str]]:
    with lookup:
        return [[one.response for one in lookup.get(identity)] for identity in asked]


@given(st.permutations("abcdef"), st.integers(1, 3))
def test_any_order_gives_the_responses_of_each_prompt(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], samples: int
) -> None:
    path = tmp_path_factory.mktemp("lookup") / "responses.jsonl"
    write_records(path, [response(one, at) for one in order for at in range(samples)])
    lookup = ResponseLookup(path, None)
    expected = [[f"{one}{at}" for at in range(samples)] for one in "abcd"]
    assert texts(lookup, "abcd") == expected
    assert lookup.unused == 2


def test_samples_that_stand_apart_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    write_records(path, [response("a"), response("b"), response("a", 1), response("b", 1)])
    lookup = ResponseLookup(path, None)
    assert texts(lookup, "ab") == [["a0", "a1"], ["b0", "b1"]]
    assert lookup.unused == 0


@pytest.mark.parametrize("rows", [[("a", 1)], [("a", 0), ("a", 2)], [("b", 0), ("a", 1)]])
def test_samples_out_of_their_order_are_refused(
    tmp_path: Path, rows: list[tuple[str, int]]
) -> None:
    path = tmp_path / "responses.jsonl"
    write_records(path, [response(*row) for row in rows])
    with pytest.raises(InputError, match=r"sample \d of the response to 'a' stands where sample"):
        ResponseLookup(path, None)


def test_a_dropped_prompt_leaves_the_order_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    write_records(path, [response("a"), response("c")])
    dropped = Manifest(kind="responses", dropped_ids={"over_long": ["b"]})
    lookup = ResponseLookup(path, dropped)
    assert texts(lookup, "abc") == [["a0"], [], ["c0"]]
    assert texts(ResponseLookup(path, dropped), "bca") == [[], ["c0"], ["a0"]]
    with pytest.raises(InputError, match="no response for id 'b'"):
        texts(ResponseLookup(path, None), "abc")


def test_memory_does_not_grow_with_a_file_in_the_same_order(tmp_path: Path) -> None:
    def held(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        write_records(path, (response(str(at)) for at in range(count)))
        gc.collect()
        tracemalloc.start()
        dropped = Manifest(kind="responses", dropped_ids={"over_long": ["x"]})
        with ResponseLookup(path, dropped) as lookup:
            assert not lookup.get("x")
            for at in range(count):
                assert lookup.get(str(at))
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    held(10)
    assert held(2000) - held(1000) < 4000
