"""A record that is longer than the model's own context is over-long in every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tspin.config import RunConfig
from tspin.doctor import doctor_report
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.generate.step import generate
from tspin.machine.check import Check
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.train.step import train

CONTEXT = 64


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A model that has no positions past its context, as GPT-2."""
    folder = tmp_path_factory.mktemp("gpt2")
    sizes = {"n_positions": CONTEXT, "n_embd": 16, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tiny_tokenizer), **sizes, **ends)).save_pretrained(
        folder
    )
    tiny_tokenizer.save_pretrained(folder)
    return folder


def config_of(model: Path, folder: Path, *, over_long: str = "error") -> RunConfig:
    """All but one record fit; prompt.max_length is what it is by default, far above the context."""
    texts = ["A city", "A city " * CONTEXT, "Paris"]
    records = [
        AnnotatedRecord(id=f"r{at}", messages=[Message(role="user", content=text)], response="A")
        for at, text in enumerate(texts)
    ]
    write_records(folder / "a.jsonl", records)
    return RunConfig.model_validate(
        {
            "run_dir": str(folder / "run"),
            "model": {"path": str(model)},
            "data": {"annotated": str(folder / "a.jsonl"), "heldout": str(folder / "a.jsonl")},
            "prompt": {"over_long": over_long},
            "generate": {"engine": "transformers", "max_new_tokens": 16},
            "train": {"method": "sft", "global_batch_size": 1, "learning_rate": 1e-3},
            "system": {"device": "cpu"},
        }
    )


def steps(config: RunConfig, folder: Path) -> dict[str, list[str]]:
    """What each step leaves out."""
    name, data = config.model.path, folder / "a.jsonl"
    trained = train(config, model=name, triplets=data, iteration=0, out=folder / "model")
    answered = generate(config, model=name, annotated=data, out=folder / "r.jsonl", iteration=0)
    metrics = evaluate(
        config, model=name, annotated=data, out=folder / "m.json", proto=None, iteration=-1
    )
    assert metrics["records"] == 2
    return {
        "train": trained.dropped_ids["over_long"],
        "generate": answered.dropped_ids["over_long"],
    }


def test_it_is_refused_with_file_and_line_or_dropped(model: Path, tmp_path: Path) -> None:
    config, name, data = config_of(model, tmp_path), str(model), tmp_path / "a.jsonl"
    refused = rf"a\.jsonl:2: record 'r1'.*{CONTEXT}|a\.jsonl:2: record 'r1'.*leave room"
    with pytest.raises(InputError, match=refused):
        train(config, model=name, triplets=data, iteration=0, out=tmp_path / "model")
    with pytest.raises(InputError, match=refused):
        generate(config, model=name, annotated=data, out=tmp_path / "r.jsonl", iteration=0)
    with pytest.raises(InputError, match=refused):
        out = tmp_path / "m.json"
        evaluate(config, model=name, annotated=data, out=out, proto=None, iteration=-1)
    dropped = steps(config_of(model, tmp_path, over_long="drop"), tmp_path)
    assert dropped == {"train": ["r1"], "generate": ["r1"]}


def test_the_doctor_says_it_before(model: Path, tmp_path: Path) -> None:
    config = config_of(model, tmp_path)
    checks = {check.name: check for check in doctor_report(config)}
    limit = checks["prompt.max_length"]
    assert limit.status == "warn" and f"is 2,048, but the model's context has {CONTEXT}" in (
        limit.detail
    )
    for name in ("lengths in data.annotated", "lengths in data.heldout"):
        assert checks[name].status == "fail"
        assert f"1 of 3 records need more than {CONTEXT} tokens" in checks[name].detail
        assert checks[name].detail.split("the first at ")[1].startswith(f"{tmp_path}/a.jsonl:2;")
    template = checks["prompt.template"]
    assert template.detail == "instruction; responses end with '</s>', stops at ['</s>']"

    dropping = {c.name: c for c in doctor_report(config_of(model, tmp_path, over_long="drop"))}
    assert dropping["lengths in data.annotated"].status == "warn"

    wide = config.generate.model_copy(update={"max_new_tokens": 512})
    told = {c.name: c for c in doctor_report(config.model_copy(update={"generate": wide}))}
    assert told["prompt.max_length"] == Check(
        "prompt.max_length",
        "fail",
        "the model's context has 64 tokens, and generate.max_new_tokens is 512: no prompt fits; "
        "lower that",
    )
