"""The response file: whole, in order, and the same bytes after any interruption."""

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspin.engines import Completion, GenerationRequest, SamplingParams
from tspin.engines.fake import FakeEngine
from tspin.errors import InputError, TspinError
from tspin.generate.journal import Journal
from tspin.generate.plan import ResponsePlan
from tspin.generate.responses import write_responses
from tspin.records.manifest import journal_path
from tspin.records.records import AnnotatedRecord, Message, Response, read_records, write_records
from tspin.seeds import derive_seed
from tspin.tokens.prompts import PromptTemplate

RECORDS = [
    AnnotatedRecord(
        id=f"r{i}", messages=[Message(role="user", content="apple " * (i * 7 % 10))], response="y"
    )
    for i in range(11)
]
BATCH = 3
BATCHES = 4
SAMPLING = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=12)


def _user(text: str) -> Message:
    return Message(role="user", content=text)


class Killed(BaseException):
    """Like a kill: nothing catches it."""


class CountingEngine(FakeEngine):
    """The fake engine; notes its batches, and dies in the one after `survives`."""

    def __init__(
        self, template: PromptTemplate, survives: int | None = None, batch_size: int = BATCH
    ) -> None:
        super().__init__(template, batch_size=batch_size)
        self.batches: list[list[str]] = []
        self.survives = survives
        self.closed = False

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        for group in super().generate(requests, sampling):
            if self.survives is not None and len(self.batches) == self.survives:
                raise Killed
            self.batches.append([made.id for made in group])
            yield group

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def template(tiny_tokenizer):
    return PromptTemplate.load(tiny_tokenizer, "auto")


@pytest.fixture
def engine(template):
    return CountingEngine(template)


def write(template: PromptTemplate, engine: CountingEngine | None, out: Path, **changes):
    def open_engine() -> CountingEngine:
        assert engine is not None, "the engine was opened with nothing left to do"
        return engine

    options = {
        "open_engine": open_engine,
        "template": template,
        "records": RECORDS,
        "sampling": SAMPLING,
        "seed_of": lambda record: int(record[1:]) + 100,
        "out": out,
        "decisive": {"model": "m"},
        "max_length": 100,
        "over_long": "error",
    }
    return write_responses(**{**options, **changes})


def interrupt(template: PromptTemplate, out: Path, after: int) -> bytes:
    """Leave the journal of a run that died after so many batches; returns its bytes."""
    with pytest.raises(Killed):
        write(template, CountingEngine(template, survives=after), out)
    assert not out.exists()
    return journal_path(out).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(template, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "responses.jsonl"
    write(template, CountingEngine(template), out)
    return out.read_bytes()


def test_one_response_a_record_in_the_order_of_the_input(template, engine, tmp_path):
    out = tmp_path / "deep" / "responses.jsonl"
    annotated = tmp_path / "annotated.jsonl"
    write_records(annotated, RECORDS)
    result = write(template, engine, out, records=annotated)
    responses = list(read_records(out, Response))
    assert [made.id for made in responses] == [record.id for record in RECORDS]
    for record, made in zip(RECORDS, responses, strict=True):
        assert made.seed == int(record.id[1:]) + 100
        assert made.prompt_tokens == len(template.prompt_ids(record.messages))
    assert result.counts == {
        "records": len(RECORDS),
        "stop": sum(made.finish_reason == "stop" for made in responses),
        "length": sum(made.finish_reason == "length" for made in responses),
        "empty": sum(made.response == "" for made in responses),
    }
    assert result.counts["stop"] > 0
    assert result.counts["length"] > 0
    assert result.dropped_ids == {}
    assert {*out.parent.iterdir()} == {out, journal_path(out)}
    assert engine.closed


def test_batches_are_sorted_by_length_longest_first(template, engine, tmp_path):
    write(template, engine, tmp_path / "out.jsonl")
    lengths = {record.id: len(template.prompt_ids(record.messages)) for record in RECORDS}
    answered = [lengths[name] for batch in engine.batches for name in batch]
    assert answered == sorted(answered, reverse=True)
    assert [len(batch) for batch in engine.batches] == [3, 3, 3, 2]


@pytest.mark.parametrize("after", range(BATCHES))
def test_interrupted_run_continues_with_the_same_bytes(
    template, engine, tmp_path, uninterrupted, after
):
    out = tmp_path / "out.jsonl"
    interrupt(template, out, after)
    write(template, engine, out)
    assert out.read_bytes() == uninterrupted
    assert len(engine.batches) == BATCHES - after
    write(template, None, out)  # Without a manifest the responses may be asked for again.
    assert out.read_bytes() == uninterrupted


@settings(max_examples=60)
@given(keep=st.floats(0, 1), noise=st.binary(max_size=30))
def test_journal_torn_anywhere_gives_the_same_bytes(
    template, tmp_path_factory, uninterrupted, keep, noise
):
    out = tmp_path_factory.mktemp("torn") / "out.jsonl"
    whole = interrupt(template, out, BATCHES - 1)
    journal_path(out).write_bytes(whole[: int(keep * len(whole))] + noise)
    write(template, CountingEngine(template), out)
    assert out.read_bytes() == uninterrupted


@pytest.mark.parametrize("cut", [1, 20])
def test_only_whole_batches_are_kept(template, engine, tmp_path, uninterrupted, cut):
    out = tmp_path / "out.jsonl"
    whole = interrupt(template, out, 2)
    assert whole.count(b"\n") == 1 + 2 * (BATCH + 1)
    journal_path(out).write_bytes(whole[:-cut])  # Without the last newline, or more.
    write(template, engine, out)
    assert len(engine.batches) == BATCHES - 1  # The torn second batch is done again.
    assert out.read_bytes() == uninterrupted


def test_what_a_kill_left_behind_is_cut_off(template, tmp_path):
    out = tmp_path / "out.jsonl"
    whole = interrupt(template, out, 2)
    journal_path(out).write_bytes(whole[:-20] + b"x" * 2000)
    assert interrupt(template, out, 1) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": SamplingParams(0.5, 1.0, 12)},
        {"seed_of": lambda record: 7},
        {"decisive": {"model": "another"}},
        {"records": RECORDS[1:]},
        {
            "records": [
                RECORDS[0].model_copy(update={"messages": RECORDS[1].messages}),
                *RECORDS[1:],
            ]
        },
    ],
    ids=["sampling", "seeds", "model", "records", "prompt"],
)
def test_journal_of_other_inputs_is_discarded(template, engine, tmp_path, caplog, changes):
    out, fresh = tmp_path / "out.jsonl", tmp_path / "fresh.jsonl"
    interrupt(template, out, 2)
    with caplog.at_level(logging.WARNING):
        write(template, engine, out, **changes)
    assert "made from other inputs and is discarded" in caplog.text
    write(template, CountingEngine(template), fresh, **changes)
    assert out.read_bytes() == fresh.read_bytes()


def test_prompts_of_the_same_length_are_told_apart(template, tmp_path):
    def answer(prompt: str, engine: CountingEngine) -> list[int]:
        message = Message(role="user", content=prompt)
        records = [AnnotatedRecord(id="r1", messages=[message], response="y"), RECORDS[2]]
        write(template, engine, tmp_path / "out.jsonl", records=records)
        return template.prompt_ids([message])

    with pytest.raises(Killed):
        answer("A B" * 30, CountingEngine(template, survives=1, batch_size=1))
    engine = CountingEngine(template, batch_size=1)
    assert len(answer("B A" * 30, engine)) == len(template.prompt_ids([_user("A B" * 30)]))
    assert len(engine.batches) == 2


def test_order_of_the_input_changes_no_response_and_no_batch(
    template, engine, tmp_path, uninterrupted
):
    out = tmp_path / "out.jsonl"
    interrupt(template, out, 2)
    write(template, engine, out, records=RECORDS[::-1])
    assert len(engine.batches) == BATCHES - 2
    assert out.read_bytes().splitlines() == uninterrupted.splitlines()[::-1]


def test_full_disk_at_the_end_keeps_the_journal_and_needs_no_engine_again(
    template, engine, tmp_path, uninterrupted
):
    out = tmp_path / "out.jsonl"
    in_the_way = tmp_path / ".out.jsonl.tmp"
    in_the_way.mkdir()  # The output cannot be written.
    with pytest.raises(TspinError, match="same command continues"):
        write(template, engine, out)
    assert engine.closed
    in_the_way.rmdir()
    write(template, None, out)
    assert out.read_bytes() == uninterrupted


def test_second_process_at_the_same_output_is_refused(template, engine, tmp_path):
    out = tmp_path / "out.jsonl"
    with (
        Journal.opened(out, "key", ResponsePlan()),
        pytest.raises(TspinError, match="another process"),
    ):
        write(template, engine, out)
    write(template, engine, out)


def test_over_long_prompts_are_an_error_or_dropped_and_listed(template, engine, tmp_path):
    out = tmp_path / "out.jsonl"
    lengths = {record.id: len(template.prompt_ids(record.messages)) for record in RECORDS}
    most = sorted(lengths.values())[-3]
    limit = most + SAMPLING.max_new_tokens
    longest = [name for name, length in lengths.items() if length > most]
    with pytest.raises(InputError, match=rf"'{longest[0]}'.*{lengths[longest[0]]} tokens.*{most}"):
        write(template, engine, out, max_length=limit)
    assert list(tmp_path.iterdir()) == []
    result = write(template, engine, out, max_length=limit, over_long="drop")
    assert result.dropped_ids == {"over_long": longest}
    assert result.counts["records"] == len(RECORDS) - len(longest)
    assert {made.id for made in read_records(out, Response)} == set(lengths) - set(longest)
    with pytest.raises(InputError, match=r"max_new_tokens \(12\) leaves no room"):
        write(template, engine, out, max_length=12)


def test_doubtful_inputs(template, engine, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="same id"):
        write(template, engine, out, records=[RECORDS[0], RECORDS[1], RECORDS[0]])
    result = write(template, None, out, records=[])
    assert result.counts["records"] == 0
    assert out.read_bytes() == b""


def test_journal_lines_are_the_response_records(template, tmp_path):
    lines = interrupt(template, tmp_path / "out.jsonl", 1).splitlines()
    assert set(orjson.loads(lines[0])) == {"key"}
    assert lines[-1] == b""  # The end of the group.
    for line in lines[1:-1]:
        Response.model_validate(orjson.loads(line))


def test_another_batch_size_continues(template, tmp_path, uninterrupted):
    out = tmp_path / "out.jsonl"
    interrupt(template, out, 2)
    smaller = CountingEngine(template, batch_size=1)
    write(template, smaller, out)
    assert len(smaller.batches) == len(RECORDS) - 2 * BATCH
    assert out.read_bytes() == uninterrupted


class ScatteredEngine(CountingEngine):
    """Takes all requests at once and finishes them in an order of its own, two at a time."""

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        mixed = sorted(requests, key=lambda request: request.id[::-1], reverse=True)
        yield from super().generate(mixed, sampling)


@pytest.mark.parametrize("after", range(5))
def test_responses_may_finish_in_any_order(template, tmp_path, uninterrupted, after):
    out = tmp_path / "out.jsonl"
    with pytest.raises(Killed):
        write(template, ScatteredEngine(template, survives=after, batch_size=2), out)
    engine = ScatteredEngine(template, batch_size=2)
    write(template, engine, out)
    assert sum(map(len, engine.batches)) == len(RECORDS) - 2 * after
    assert out.read_bytes() == uninterrupted


def test_an_engine_that_leaves_prompts_out_is_an_error(template, tmp_path):
    class Forgetful(CountingEngine):
        def generate(
            self, requests: Iterable[GenerationRequest], sampling: SamplingParams
        ) -> Iterator[list[Completion]]:
            yield from super().generate(list(requests)[1:], sampling)

    with pytest.raises(TspinError, match="left 1 prompts without a response"):
        write(template, Forgetful(template), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_several_samples_stand_together_and_the_first_is_that_of_one(
    template, engine, tmp_path, uninterrupted
):
    out = tmp_path / "out.jsonl"
    result = write(template, engine, out, samples=3)
    lines = out.read_bytes().splitlines(keepends=True)
    assert b"".join(lines[::3]) == uninterrupted
    responses = list(read_records(out, Response))
    keys = [(record.id, sample) for record in RECORDS for sample in range(3)]
    assert [made.key for made in responses] == keys
    assert len({made.seed for made in responses}) == len(keys) == result.counts["records"]
    # Drawn from the seed of the first and the number: never those of another record or iteration.
    assert responses[4].seed == derive_seed(101, "sample", 1)


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_interrupted_samples_continue_with_the_same_bytes(template, tmp_path, after):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    write(template, CountingEngine(template), whole, samples=2)
    with pytest.raises(Killed):
        write(template, CountingEngine(template, survives=after), out, samples=2)
    engine = CountingEngine(template)
    write(template, engine, out, samples=2)
    assert out.read_bytes() == whole.read_bytes()
    assert len(engine.batches) == 8 - after  # 22 responses, 3 a batch.


def test_samples_of_another_number_are_made_anew(template, engine, tmp_path, caplog):
    out, fresh = tmp_path / "out.jsonl", tmp_path / "fresh.jsonl"
    interrupt(template, out, 2)
    with caplog.at_level(logging.WARNING):
        write(template, engine, out, samples=2)
    assert "made from other inputs and is discarded" in caplog.text
    write(template, CountingEngine(template), fresh, samples=2)
    assert out.read_bytes() == fresh.read_bytes()


@pytest.fixture
def at_once(monkeypatch):
    """Engines start beside prompts, however few they are."""
    monkeypatch.setattr("tspin.generate.opening.ALONE", 0.0)


def held_back(started: threading.Event) -> Iterator[AnnotatedRecord]:
    """Records of which the last one does not come before the engine is asked for."""
    yield from RECORDS[:-1]
    assert started.wait(60), "no engine was started beside the prompts"
    yield RECORDS[-1]


@pytest.mark.usefixtures("at_once")
def test_the_engine_starts_while_prompts_are_tokenised(template, tmp_path, uninterrupted):
    started, engine = threading.Event(), CountingEngine(template)

    def open_engine() -> CountingEngine:
        assert threading.current_thread() is threading.main_thread()
        started.set()
        return engine

    out = tmp_path / "out.jsonl"
    write(template, engine, out, open_engine=open_engine, records=held_back(started))
    assert out.read_bytes() == uninterrupted
    assert engine.closed


@pytest.mark.usefixtures("at_once")
def test_an_engine_beside_prompts_that_are_refused_is_closed(template, tmp_path):
    started, engine = threading.Event(), CountingEngine(template)

    def records() -> Iterator[AnnotatedRecord]:
        assert started.wait(60)
        yield RECORDS[0]
        yield RECORDS[0]

    def open_engine() -> CountingEngine:
        started.set()
        return engine

    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="the same id"):
        write(template, engine, out, open_engine=open_engine, records=records())
    assert engine.closed
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("at_once")
def test_a_journal_that_has_all_needs_no_engine_beside_its_prompts(
    template, tmp_path, uninterrupted, monkeypatch
):
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("tspin.generate.responses._assemble", kill)
        with pytest.raises(Killed):
            write(template, CountingEngine(template), out)
    patience = []

    def waited(futures, timeout):
        patience.append(timeout)
        return wait(futures, timeout)

    monkeypatch.setattr("tspin.generate.opening.wait", waited)
    write(template, None, out)
    assert out.read_bytes() == uninterrupted
    assert patience == [None], "an engine might have been started before the prompts were known"


def kill(*_: object) -> None:
    raise Killed
