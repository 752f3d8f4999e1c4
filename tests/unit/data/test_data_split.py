"""The split: the same every time, no row moves another, no prompt on two sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspin.data import SplitCounts, split_records
from tspin.data.split import is_heldout
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, Message, read_records, write_records


def record(number: int, prompt: str | None = None) -> AnnotatedRecord:
    user = Message(role="user", content=prompt or f"question {number}?")
    return AnnotatedRecord(id=str(number), messages=[user], response=f"answer {number}")


def split(path: Path, records: list[AnnotatedRecord], **options: float) -> tuple[set[str], ...]:
    write_records(path / "all.jsonl", records)
    sides = (path / "train.jsonl", path / "heldout.jsonl")
    counts = split_records(path / "all.jsonl", train=sides[0], heldout=sides[1], **options)
    ids = tuple({r.id for r in read_records(side, AnnotatedRecord)} for side in sides)
    assert counts == SplitCounts(*(len(side) for side in ids))
    return ids


def test_every_record_is_on_one_side_and_the_share_is_met(tmp_path: Path) -> None:
    train, heldout = split(tmp_path, [record(i) for i in range(2000)], heldout_share=0.2)
    assert train.isdisjoint(heldout)
    assert len(train | heldout) == 2000
    # Binomial(2000, 0.2): mean 400, standard deviation 17.9; five of them either way.
    assert 310 < len(heldout) < 490


def test_order_kept_and_equal_bytes_every_time(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    split(tmp_path, records, seed=3)
    first = (tmp_path / "train.jsonl").read_bytes()
    ids = [int(r.id) for r in read_records(tmp_path / "train.jsonl", AnnotatedRecord)]
    assert ids == sorted(ids)
    split(tmp_path, records, seed=3)
    assert (tmp_path / "train.jsonl").read_bytes() == first
    assert split(tmp_path, records, seed=3) != split(tmp_path, records, seed=4)


def test_adding_and_reordering_rows_moves_none(tmp_path: Path) -> None:
    few, many = [record(i) for i in range(200)], [record(i) for i in range(399, -1, -1)]
    (train, heldout), (more_train, more_heldout) = split(tmp_path, few), split(tmp_path, many)
    assert train < more_train
    assert heldout < more_heldout


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(0, 5))
@settings(max_examples=50)
def test_one_prompt_is_on_one_side(prompts: list[int], seed: int) -> None:
    sides: dict[int, set[bool]] = {}
    for number, prompt in enumerate(prompts):
        # Case and white space do not make another prompt.
        text = f"What is {prompt}?" if number % 2 else f" what is\n{prompt}? "
        sides.setdefault(prompt, set()).add(is_heldout(record(number, text), 0.5, seed))
    assert all(len(side) == 1 for side in sides.values())


@given(st.lists(st.integers(0, 4), min_size=2, max_size=5), st.integers(0, 5))
@settings(max_examples=50)
def test_a_conversation_and_its_continuations_are_on_one_side(said: list[int], seed: int) -> None:
    turns = [Message(role="system", content="Be brief.")]
    sides = set()
    for number in said:
        turns.append(Message(role="user", content=f"question {number}?"))
        continued = AnnotatedRecord(id="a", messages=[*turns], response=f"answer {number}")
        sides.add(is_heldout(continued, 0.5, seed))
        turns.append(Message(role="assistant", content=f"answer {number}"))
    assert len(sides) == 1


def test_single_turns_stay_on_the_side_of_earlier_releases() -> None:
    held = [number for number in range(30) if is_heldout(record(number), 0.3, 0)]
    assert held == [2, 6, 15, 17, 19, 22, 28, 29]


def test_a_greeting_belongs_to_the_beginning() -> None:
    greeting = Message(role="assistant", content="Hello!")
    first = record(1).messages[0]
    turns = [greeting, first, Message(role="assistant", content="a"), record(2).messages[0]]
    whole = AnnotatedRecord(id="a", messages=turns, response="b")
    begun = AnnotatedRecord(id="b", messages=turns[:2], response="a")
    assert all(is_heldout(whole, 0.5, seed) == is_heldout(begun, 0.5, seed) for seed in range(20))


def test_a_larger_share_keeps_what_was_held_out(tmp_path: Path) -> None:
    records = [record(i) for i in range(300)]
    _, few = split(tmp_path, records, heldout_share=0.1)
    _, more = split(tmp_path, records, heldout_share=0.3)
    assert few < more


@pytest.mark.parametrize(("share", "side"), [(0.0001, "held-out"), (0.9999, "train")])
def test_an_empty_side_is_refused_and_nothing_is_written(
    tmp_path: Path, share: float, side: str
) -> None:
    with pytest.raises(InputError, match=f"the {side} side would be empty \\(3 records"):
        split(tmp_path, [record(i) for i in range(3)], heldout_share=share)
    assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    path, other = tmp_path / "all.jsonl", tmp_path / "b.jsonl"
    write_records(path, [record(i) for i in range(3)])
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="heldout_share is"):
            split_records(path, train=other, heldout=tmp_path / "c", heldout_share=share)
    with pytest.raises(InputError, match="three different files"):
        split_records(path, train=other, heldout=tmp_path / "x" / ".." / "b.jsonl")
    with pytest.raises(InputError, match="three different files"):
        split_records(path, train=path, heldout=other)
    with pytest.raises(InputError, match="seed is -1"):
        split_records(path, train=other, heldout=tmp_path / "c", seed=-1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.jsonl"]


def test_a_damaged_input_leaves_earlier_outputs_alone(tmp_path: Path) -> None:
    split(tmp_path, [record(i) for i in range(50)])
    before = (tmp_path / "train.jsonl").read_bytes()
    with (tmp_path / "all.jsonl").open("ab") as file:
        file.write(b"{broken\n")
    with pytest.raises(InputError, match=r"all.jsonl:51: not a JSON object"):
        split_records(
            tmp_path / "all.jsonl",
            train=tmp_path / "train.jsonl",
            heldout=tmp_path / "heldout.jsonl",
        )
    assert (tmp_path / "train.jsonl").read_bytes() == before
