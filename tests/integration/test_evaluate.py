"""The evaluate step on a tiny model: numbers against plain computations, errors, resuming."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from evaluations import config_of, records_of, write_heldout
from transformers import AutoModelForCausalLM, AutoTokenizer

import tspin.evaluate.answers
from tspin.config import RunConfig
from tspin.engines import Completion, GenerationRequest, SamplingParams
from tspin.engines.fake import FakeEngine
from tspin.errors import TspinError
from tspin.evaluate.step import evaluate
from tspin.generate.step import generate
from tspin.records.manifest import read_manifest
from tspin.records.records import AnnotatedRecord, Response, read_records, write_records
from tspin.records.seconds import seconds_path
from tspin.tokens.prompts import PromptTemplate

pytestmark = pytest.mark.integration


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    return write_heldout(tmp_path / "heldout.jsonl")


def plain_logp(
    model: Path, record: AnnotatedRecord, response: str, *, finished: bool
) -> tuple[float, int]:
    """Summed log-probability in float64 from the full logits of one unpadded sequence."""
    template = PromptTemplate.load(AutoTokenizer.from_pretrained(model), "auto")
    prompt = template.prompt_ids(record.messages)
    answer = template.response_ids(response, finished=finished)
    policy = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.no_grad():
        logits = policy(torch.tensor([prompt + answer])).logits[0].double()
    logps = torch.log_softmax(logits, -1)
    positions = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return sum(float(logps[at, token]) for at, token in zip(positions, answer, strict=True)), len(
        answer
    )


def test_likelihoods_equal_a_plain_computation(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    """nll_per_token over all tokens, margins and accuracies of y, y' and y0, in nats."""
    config = config_of(tiny_model_dir)
    proto = tmp_path / "proto.jsonl"
    generate(config, model=str(tiny_model_dir), annotated=annotated, out=proto, iteration=0)
    out = tmp_path / "iter-0" / "metrics.json"
    found = evaluate(
        config, model=str(tiny_model_dir), annotated=annotated, out=out, proto=proto, iteration=0
    )
    sampled = {r.id: r for r in read_records(out.with_name("metrics.sampled.jsonl"), Response)}
    initial = {r.id: r for r in read_records(proto, Response)}
    y, y1, y0 = [], [], []
    for record in records_of(10):
        y.append(plain_logp(tiny_model_dir, record, record.response, finished=True))
        for responses, into in ((sampled, y1), (initial, y0)):
            made = responses[record.id]
            done = made.finish_reason == "stop"
            into.append(plain_logp(tiny_model_dir, record, made.response, finished=done))
    metrics = found["metrics"]
    nats, tokens = sum(logp for logp, _ in y), sum(count for _, count in y)
    assert metrics["nll_per_token"]["value"] == pytest.approx(-nats / tokens, rel=1e-5)
    assert metrics["logps/annotated"]["value"] == pytest.approx(nats / 10, rel=1e-5)
    assert metrics["logps_per_token/synthetic"]["value"] == pytest.approx(
        sum(logp / count for logp, count in y1) / 10, rel=1e-5
    )
    assert metrics["response_tokens/annotated"]["value"] == pytest.approx(tokens / 10 - 1)
    pairs = (("annotated_synthetic", y, y1), ("synthetic_proto_synthetic", y1, y0))
    for name, better, worse in pairs:
        gaps = [a - b for (a, _), (b, _) in zip(better, worse, strict=True)]
        assert metrics[f"margins/{name}"]["value"] == pytest.approx(sum(gaps) / 10, rel=1e-5)
        assert metrics[f"accuracies/{name}"]["value"] == sum(gap > 0 for gap in gaps) / 10
    assert all(m["low"] <= m["value"] <= m["high"] for m in metrics.values())
    assert {r.seed for r in sampled.values()}.isdisjoint(r.seed for r in initial.values())


def test_exact_match_counts_what_the_engine_answered(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Annotations: 3 are the engine's own greedy answers, 4 are others, 2 hold no answer."""
    template = PromptTemplate.load(AutoTokenizer.from_pretrained(tiny_model_dir), "auto")
    greedy = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=40)
    records = []
    for row, record in enumerate(records_of(60)):
        request = GenerationRequest(record.id, tuple(template.prompt_ids(record.messages)), 0)
        [[answer]] = FakeEngine(template).generate([request], greedy)
        if "46" in answer.text.split()[-3:] and len(records) < 3:
            records.append(record.model_copy(update={"response": f"So it is: {answer.text}"}))
        elif row > 40 and len(records) < 7:
            records.append(record.model_copy(update={"response": "The answer is 999."}))
        elif row > 50 and len(records) < 9:
            records.append(record.model_copy(update={"response": "No number here."}))
    assert len(records) == 9
    path = tmp_path / "heldout.jsonl"
    write_records(path, records)
    config = config_of(
        tiny_model_dir,
        generate={"max_new_tokens": 40},
        evaluate={"extractors": ["last_number", "exact"], "sampled": False},
    )
    out = tmp_path / "metrics.json"
    found = evaluate(
        config, model=str(tiny_model_dir), annotated=path, out=out, proto=None, iteration=-1
    )
    metrics = found["metrics"]
    assert (found["iteration"], found["records"]) == (-1, 9)
    assert metrics["exact_match/last_number/greedy"]["n"] == 7
    assert metrics["exact_match/last_number/greedy"]["value"] == 3 / 7
    whole = metrics["exact_match/exact/greedy"]
    assert (whole["value"], whole["n"]) == (0.0, 9)
    assert not any("sampled" in name or "synthetic" in name for name in metrics)
    assert not (tmp_path / "metrics.sampled.jsonl").exists()


def test_the_real_engine_at_the_end_of_its_tokens(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    """A random model rarely ends by itself: truncated samples are counted, and lengths add up."""
    config = config_of(
        tiny_model_dir,
        generate={"engine": "transformers"},
        evaluate={"max_new_tokens": 5, "extractors": ["answer_is"]},
    )
    out = tmp_path / "metrics.json"
    evaluate(
        config, model=str(tiny_model_dir), annotated=annotated, out=out, proto=None, iteration=-1
    )
    metrics = json.loads(out.read_bytes())["metrics"]
    for mode in ("greedy", "sampled"):
        responses = list(read_records(out.with_name(f"metrics.{mode}.jsonl"), Response))
        cut = sum(response.finish_reason == "length" for response in responses)
        assert cut > 0
        assert metrics[f"truncated/{mode}"]["value"] == cut / 10
        lengths = [response.response_tokens for response in responses]
        assert max(lengths) <= 5
        assert metrics[f"response_tokens/{mode}"]["value"] == pytest.approx(sum(lengths) / 10)
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.kind, manifest.counts["records"], manifest.iteration) == ("metrics", 10, -1)


class FailingEngine(FakeEngine):
    """Dies at its second batch, as a machine may."""

    def generate(
        self, requests: Iterable[GenerationRequest], sampling: SamplingParams
    ) -> Iterator[list[Completion]]:
        yield next(super().generate(requests, sampling))
        raise TspinError("the machine is gone")


def test_a_killed_evaluation_continues_and_ends_with_the_same_bytes(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, model = config_of(tiny_model_dir), str(tiny_model_dir)
    whole, killed = tmp_path / "whole" / "metrics.json", tmp_path / "killed" / "metrics.json"
    evaluate(config, model=model, annotated=annotated, out=whole, proto=None, iteration=1)
    opened: list[str] = []

    def open_failing(config: RunConfig, model: str, template: PromptTemplate) -> FakeEngine:
        opened.append("failing")
        return FailingEngine(template, batch_size=4)

    with monkeypatch.context() as patched:
        patched.setattr(tspin.evaluate.answers, "open_engine", open_failing)
        with pytest.raises(TspinError, match="the machine is gone"):
            evaluate(config, model=model, annotated=annotated, out=killed, proto=None, iteration=1)
    assert not killed.exists()
    journal = killed.with_name(".metrics.greedy.jsonl.partial.jsonl")
    assert len(journal.read_bytes().splitlines()) == 1 + 4 + 1  # The key, one batch, its end.
    asked: list[int] = []

    class CountingEngine(FakeEngine):
        def generate(
            self, requests: Iterable[GenerationRequest], sampling: SamplingParams
        ) -> Iterator[list[Completion]]:
            for group in super().generate(requests, sampling):
                asked.append(len(group))
                yield group

    with monkeypatch.context() as patched:
        patched.setattr(
            tspin.evaluate.answers, "open_engine", lambda c, m, t: CountingEngine(t, batch_size=4)
        )
        evaluate(config, model=model, annotated=annotated, out=killed, proto=None, iteration=1)
    assert asked == [4, 2, 4, 4, 2]
    names = sorted(path.name for path in whole.parent.iterdir())
    assert names == sorted(path.name for path in killed.parent.iterdir())
    for name in {*names} - {seconds_path(whole).name}:
        assert (whole.parent / name).read_bytes() == (killed.parent / name).read_bytes(), name
