"""Noise that iterations share, and responses of one iteration as drafts of the next."""

from __future__ import annotations

import inspect
import json
import signal
from pathlib import Path

import pytest
import torch
from evaluations import config_of, records_of
from test_generate import make_config, start, wait_for_lines
from training_runs import write_apples
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from tspin.cli.main import app
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.generate.step import generate
from tspin.records.manifest import Manifest, journal_path, manifest_path
from tspin.records.records import Response, read_records, write_records

pytestmark = pytest.mark.integration

SET = ("coupled", "max_new_tokens")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory) -> Path:
    return write_apples(tmp_path_factory.mktemp("data") / "annotated.jsonl")


@pytest.fixture(scope="module")
def near(tiny_model_dir: Path, tmp_path_factory) -> Path:
    """A policy close to the tiny model, as the next iteration's is."""
    folder = tmp_path_factory.mktemp("near")
    policy = LlamaForCausalLM.from_pretrained(tiny_model_dir)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.003)
    policy.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_model_dir / name).read_bytes())
    return folder


def run(config: RunConfig, out: Path, iteration: int, drafts: Path | None = None) -> Manifest:
    return generate(
        config,
        model=config.model.path,
        annotated=Path(config.data.annotated),
        out=out,
        iteration=iteration,
        drafts=drafts,
    )


def seeds(path: Path) -> list[int]:
    return [made.seed for made in read_records(path, Response)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens a row of each pass."""
    widths: list[int] = []
    forward = LlamaForCausalLM.forward

    def counted(self, input_ids, **given):
        widths.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **given)

    counted.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    return widths


@pytest.mark.parametrize("engine", ["fake", "transformers"])
def test_iterations_share_their_noise_only_where_they_are_coupled(
    tiny_model_dir, annotated, tmp_path, engine
):
    settings = {"engine": engine, "max_new_tokens": 8}
    apart = make_config(tiny_model_dir, annotated, **settings)
    coupled = make_config(tiny_model_dir, annotated, coupled=True, **settings)
    made = {
        (name, iteration): tmp_path / f"{name}-{iteration}.jsonl"
        for name in ("apart", "coupled")
        for iteration in (0, 1, 2)
    }
    for (name, iteration), out in made.items():
        run(coupled if name == "coupled" else apart, out, iteration)
    assert seeds(made["coupled", 0]) == seeds(made["coupled", 1]) == seeds(made["coupled", 2])
    assert not set(seeds(made["apart", 1])) & set(seeds(made["apart", 0]))
    # One policy: the same noise gives the same text.
    assert made["coupled", 1].read_bytes() == made["coupled", 2].read_bytes()
    # What is there keeps its place: y0 is the same either way, and others say so.
    manifests = {key: json.loads(manifest_path(out).read_bytes()) for key, out in made.items()}
    assert manifests["coupled", 0] == manifests["apart", 0]
    assert "coupled" not in manifests["apart", 1]["parameters"]
    assert manifests["coupled", 1]["parameters"]["coupled"] is True
    before = made["apart", 1].read_bytes()
    run(coupled, made["apart", 1], 1)
    assert made["apart", 1].read_bytes() == made["coupled", 1].read_bytes() != before


def test_coupled_evaluations_share_their_noise_too(tiny_model_dir, tmp_path):
    write_records(tmp_path / "a.jsonl", records_of(6))
    sampled = {}
    for coupled in (False, True):
        config = config_of(tiny_model_dir, generate={"coupled": coupled})
        for iteration in (-1, 0, 1):
            out = tmp_path / f"{coupled}-{iteration}" / "metrics.json"
            evaluate(
                config,
                model=str(tiny_model_dir),
                annotated=tmp_path / "a.jsonl",
                proto=None,
                out=out,
                iteration=iteration,
            )
            sampled[coupled, iteration] = seeds(out.with_name("metrics.sampled.jsonl"))
            settings = json.loads(manifest_path(out).read_bytes())["parameters"]["generate"]
            # As earlier releases wrote it, whose evaluations stay.
            assert settings.get("coupled", False) == coupled
            assert ("coupled" in settings) == coupled
    assert sampled[True, -1] == sampled[True, 0] == sampled[True, 1] == sampled[False, -1]
    assert not set(sampled[False, 0]) & set(sampled[False, 1])


@pytest.mark.parametrize(
    "sampling",
    [{}, {"top_p": 0.8, "temperature": 0.7}, {"stop": ("e", "12")}, {"temperature": 0.0}],
    ids=["all", "top-p", "stops", "greedy"],
)
def test_drafts_change_neither_bytes_nor_manifest(
    tiny_model_dir, near, annotated, tmp_path, passes, sampling
):
    settings = {"coupled": True} | sampling
    first = make_config(tiny_model_dir, annotated, **settings)
    later = make_config(near, annotated, **settings)
    drafts, plain, out = (tmp_path / name for name in ("0.jsonl", "plain.jsonl", "1.jsonl"))
    run(first, drafts, 0)
    passes.clear()
    run(later, plain, 1)
    without = len(passes)
    passes.clear()
    run(later, out, 1, drafts)
    assert out.read_bytes() == plain.read_bytes() != drafts.read_bytes()
    assert manifest_path(out).read_bytes() == manifest_path(plain).read_bytes()
    assert len(passes) < without


def test_the_command_takes_drafts_from_a_file(tiny_model_dir, near, annotated, tmp_path, passes):
    config = make_config(near, annotated, coupled=True, max_new_tokens=12)
    drafts, plain, out = (tmp_path / name for name in ("0.jsonl", "plain.jsonl", "1.jsonl"))
    run(make_config(tiny_model_dir, annotated, coupled=True, max_new_tokens=12), drafts, 0)

    def told(out: Path, *more: object) -> int:
        passes.clear()
        settings = [f"generate.{name}={value}" for name, value in config.generate if name in SET]
        settings += ["prompt.max_length=200", "seed=3", "system.generate_batch_size=4"]
        options = [part for setting in settings for part in ("--set", setting)]
        command = ["generate", "--model", near, "--annotated", annotated, "--iteration", 1]
        arguments = map(str, [*command, "--out", out, *options, *more])
        ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return len(passes)

    without = told(plain)
    assert told(out, "--drafts", drafts) < without
    assert out.read_bytes() == plain.read_bytes() != drafts.read_bytes()
    with pytest.raises(InputError, match=r"absent\.jsonl"):
        told(tmp_path / "other.jsonl", "--drafts", tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="annotated"):
        told(tmp_path / "other.jsonl", "--drafts", annotated)
    assert not (tmp_path / "other.jsonl").exists()


def test_drafts_are_left_aside_where_they_are_of_no_use(
    tiny_model_dir, annotated, tmp_path, passes
):
    config = make_config(tiny_model_dir, annotated, coupled=True, max_new_tokens=12)
    drafts = tmp_path / "0.jsonl"
    run(config, drafts, 0)

    def widths(config: RunConfig, drafts: Path | None) -> list[int]:
        passes.clear()
        out = tmp_path / "out.jsonl"
        out.unlink(missing_ok=True)
        run(config, out, 1, drafts)
        return [*passes]

    plain = widths(config, None)
    assert len(widths(config, drafts)) < len(plain)
    assert widths(config, tmp_path / "absent.jsonl") == plain
    off = config.model_copy(update={"system": config.system.model_copy(update={"drafts": False})})
    assert widths(off, drafts) == plain
    apart = make_config(tiny_model_dir, annotated, max_new_tokens=12)
    assert widths(apart, drafts) == widths(apart, None)
    # In half precision a wider pass rounds another way.
    coarse = config.model_copy(
        update={"model": config.model.model_copy(update={"dtype": "bfloat16"})}
    )
    assert widths(coarse, drafts) == widths(coarse, None)


def test_killed_with_drafts_and_continued_with_and_without_them(
    tiny_model_dir, near, annotated, tmp_path
):
    drafts, whole = tmp_path / "0.jsonl", tmp_path / "whole.jsonl"
    run(make_config(tiny_model_dir, annotated, coupled=True), drafts, 0)
    config = make_config(near, annotated, coupled=True)
    run(config, whole, 1, drafts)
    for name, given in (("with", drafts), ("without", None)):
        out = tmp_path / f"{name}.jsonl"
        process = start(config, out, drafts=drafts)
        wait_for_lines(process, journal_path(out), 1 + 8)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
        run(config, out, 1, given)
        assert out.read_bytes() == whole.read_bytes()


def test_broken_drafts_are_named(tiny_model_dir, annotated, tmp_path):
    drafts, out = tmp_path / "0.jsonl", tmp_path / "1.jsonl"
    drafts.write_text('{"id": "record-1"}\n')
    with pytest.raises(InputError, match=r"0\.jsonl.*line 1|0\.jsonl:1"):
        run(make_config(tiny_model_dir, annotated, coupled=True), out, 1, drafts)
    assert not out.exists()
