"""What the evaluate step does again, leaves out and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluations import config_of, records_of, write_heldout

import tspin.evaluate.answers
import tspin.evaluate.step
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.generate.step import generate
from tspin.records.manifest import read_manifest
from tspin.records.records import AnnotatedRecord, Response, read_records, write_records

pytestmark = pytest.mark.integration


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    return write_heldout(tmp_path / "heldout.jsonl")


def test_what_is_current_is_not_measured_again(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, model, out = config_of(tiny_model_dir), str(tiny_model_dir), tmp_path / "metrics.json"
    first = evaluate(config, model=model, annotated=annotated, out=out, proto=None, iteration=0)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a policy was loaded")

    with monkeypatch.context() as patched:
        patched.setattr(tspin.evaluate.answers, "open_engine", refuse)
        patched.setattr(tspin.evaluate.step, "load_policy", refuse)
        again = evaluate(config, model=model, annotated=annotated, out=out, proto=None, iteration=0)
    assert again == first
    narrower = config_of(tiny_model_dir, evaluate={"confidence": 0.5})
    monkeypatch.setattr(
        tspin.evaluate.answers, "open_engine", refuse
    )  # The answers are current still.
    other = evaluate(narrower, model=model, annotated=annotated, out=out, proto=None, iteration=0)
    assert other["metrics"]["nll_per_token"]["low"] > first["metrics"]["nll_per_token"]["low"]


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}])
def test_another_precision_or_attention_is_measured_again(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path, change: dict[str, str]
) -> None:
    model, out = str(tiny_model_dir), tmp_path / "metrics.json"
    parameters = []
    for settings in ({}, change):
        config = config_of(tiny_model_dir, settings=settings)
        evaluate(config, model=model, annotated=annotated, out=out, proto=None, iteration=0)
        manifest = read_manifest(out)
        assert manifest is not None
        parameters.append(manifest.parameters)
    assert parameters[0] == parameters[1] | {"dtype": "float32", "attn_implementation": None}
    assert parameters[1] == parameters[0] | change


def test_a_subset_does_not_depend_on_the_order_of_the_file(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned.jsonl"
    write_records(turned, reversed(records_of(10)))
    config = config_of(tiny_model_dir, evaluate={"max_records": 4, "sampled": False})
    ids = {}
    for path in (annotated, turned):
        out = tmp_path / path.stem / "metrics.json"
        found = evaluate(
            config, model=str(tiny_model_dir), annotated=path, out=out, proto=None, iteration=0
        )
        assert found["records"] == 4
        ids[path] = {r.id for r in read_records(out.with_name("metrics.greedy.jsonl"), Response)}
        samples = read_records(out.with_name("metrics.samples.jsonl"), AnnotatedRecord)
        assert {record.id for record in samples} == ids[path]
    assert ids[annotated] == ids[turned]
    assert ids[annotated] != {"r0", "r1", "r2", "r3"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluate": {"extractors": ["exact", "gsm8k"]}}, "'gsm8k' finds an answer in none of"),
        ({"prompt": {"max_length": 40}}, r"record 'r\d' has \d+ prompt tokens and needs"),
        ({"prompt": {"max_length": 14, "over_long": "drop"}}, "no record to evaluate on; 10 are"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_generated(
    tiny_model_dir: Path,
    annotated: Path,
    tmp_path: Path,
    sections: dict[str, dict[str, Any]],
    message: str,
) -> None:
    out = tmp_path / "out" / "metrics.json"
    with pytest.raises(InputError, match=message):
        evaluate(
            config_of(tiny_model_dir, **sections),
            model=str(tiny_model_dir),
            annotated=annotated,
            out=out,
            proto=None,
            iteration=0,
        )
    assert not out.parent.exists()


def test_long_records_are_dropped_and_listed_if_asked(tiny_model_dir: Path, tmp_path: Path) -> None:
    long = records_of(1)[0].model_copy(update={"id": "long", "response": "So " * 200})
    path, out = tmp_path / "heldout.jsonl", tmp_path / "metrics.json"
    write_records(path, [*records_of(3), long])
    config = config_of(tiny_model_dir, prompt={"over_long": "drop"})
    found = evaluate(
        config, model=str(tiny_model_dir), annotated=path, out=out, proto=None, iteration=0
    )
    assert found["records"] == 3
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest.dropped_ids == {"over_long": ["long"]}


def test_proto_responses_must_belong_to_the_held_out_records(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    config, model = config_of(tiny_model_dir), str(tiny_model_dir)
    other, proto = tmp_path / "other.jsonl", tmp_path / "proto.jsonl"
    write_records(other, records_of(9))
    generate(config, model=model, annotated=other, out=proto, iteration=0)

    def measure() -> None:
        out = tmp_path / "metrics.json"
        evaluate(config, model=model, annotated=annotated, out=out, proto=proto, iteration=0)

    with pytest.raises(InputError, match="their annotated set differs"):
        measure()
    proto.with_name("proto.jsonl.manifest.json").unlink()
    with pytest.raises(InputError, match=r"proto.jsonl: no response for id 'r9'"):
        measure()


def test_the_batch_size_changes_no_more_than_rounding(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    values = []
    for size in (1, 7):
        config = config_of(
            tiny_model_dir, system={"tokens_per_device": 50 * size, "logps_chunk_size": 5 * size}
        )
        out = tmp_path / str(size) / "metrics.json"
        found = evaluate(
            config, model=str(tiny_model_dir), annotated=annotated, out=out, proto=None, iteration=0
        )
        values.append({name: metric["value"] for name, metric in found["metrics"].items()})
    assert values[0] == pytest.approx(values[1], rel=1e-5)
