"""A fitted temperature end to end: in an evaluation, in a run, in an exported model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from evaluations import config_of, write_heldout
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from typer.testing import CliRunner

import tspin.evaluate.answers
import tspin.evaluate.sharing
import tspin.evaluate.temperature
from tspin.cli.main import app
from tspin.compare.pairing import fitted_nll, nll
from tspin.config import RunConfig
from tspin.errors import InputError, TspinError
from tspin.evaluate.step import evaluate
from tspin.records.manifest import read_manifest
from tspin.records.records import Response, read_records
from tspin.records.seconds import seconds_path

pytestmark = pytest.mark.integration

FACTOR = 4.0


@pytest.fixture(scope="module")
def sharp(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, far too certain of itself."""
    folder = tmp_path_factory.mktemp("sharp") / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    with torch.no_grad():
        model.get_output_embeddings().weight.data = model.get_output_embeddings().weight * FACTOR
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    return folder


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    return write_heldout(tmp_path / "heldout.jsonl")


def config_at(model: Path) -> RunConfig:
    return config_of(
        model,
        data={"annotated": "a.jsonl", "heldout": "h.jsonl"},
        generate={"engine": "transformers", "top_p": 0.5},
        evaluate={"fit_temperature": True, "max_new_tokens": 6},
    )


def test_an_evaluation_fits_samples_and_continues(
    sharp: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the fit, it samples at the same temperature without fitting it again."""
    config, model = config_at(sharp), str(sharp)
    whole, killed = tmp_path / "whole/metrics.json", tmp_path / "killed/metrics.json"
    evaluate(config, model=model, annotated=annotated, out=whole, proto=None, iteration=1)
    metrics = json.loads(whole.read_bytes())["metrics"]
    temperature = metrics["temperature/fitted"]
    assert temperature["low"] < temperature["value"] < temperature["high"]
    assert metrics["nll_per_token/fitted"]["value"] < metrics["nll_per_token"]["value"]
    assert {"exact_match/exact/fitted", "truncated/fitted", "response_tokens/fitted"} <= set(
        metrics
    )
    made = read_manifest(whole.with_name("metrics.fitted.jsonl"))
    assert made is not None
    assert (made.parameters["temperature"], made.parameters["top_p"]) == (temperature["value"], 1.0)
    texts = {
        mode: [
            response.response
            for response in read_records(whole.with_name(f"metrics.{mode}.jsonl"), Response)
        ]
        for mode in ("sampled", "fitted")
    }
    assert texts["sampled"] != texts["fitted"]

    def gone(*_: object, **__: object) -> None:
        raise TspinError("the machine is gone")

    with monkeypatch.context() as patched:
        patched.setattr(tspin.evaluate.answers, "open_engine", gone)
        with pytest.raises(TspinError, match="the machine is gone"):
            evaluate(config, model=model, annotated=annotated, out=killed, proto=None, iteration=1)
    monkeypatch.setattr(tspin.evaluate.sharing, "load_policy", gone)
    for _ in range(2):
        evaluate(config, model=model, annotated=annotated, out=killed, proto=None, iteration=1)
    names = sorted(path.name for path in whole.parent.iterdir())
    assert names == sorted(path.name for path in killed.parent.iterdir())
    for name in {*names} - {seconds_path(whole).name}:
        assert (whole.parent / name).read_bytes() == (killed.parent / name).read_bytes(), name


def test_a_temperature_from_elsewhere_is_used_and_not_fitted(
    sharp: Path, annotated: Path, tmp_path: Path
) -> None:
    """At temperature 1 the likelihoods are the plain ones."""
    out = tmp_path / "metrics.json"
    found = evaluate(
        config_at(sharp),
        model=str(sharp),
        annotated=annotated,
        out=out,
        proto=None,
        iteration=1,
        temperature=1.0,
    )["metrics"]
    assert "temperature/fitted" not in found
    assert found["nll_per_token/fitted"]["value"] == pytest.approx(found["nll_per_token"]["value"])
    plain, fitted = nll(out), fitted_nll(out)
    assert plain.keys() == fitted.keys()
    for identity, (nats, tokens) in plain.items():
        assert fitted[identity] == (pytest.approx(nats, rel=1e-6), tokens)


def test_a_refit_that_was_killed_leaves_no_likelihoods_to_the_fit_before(
    sharp: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likelihoods and temperature are two files: both belong to one fit, whenever it is killed."""
    config, model, out = config_at(sharp), str(sharp), tmp_path / "metrics.json"
    evaluate(config, model=model, annotated=annotated, out=out, proto=None, iteration=1)
    likelihoods = out.with_name("metrics.temperature.likelihoods.jsonl")
    before = likelihoods.read_bytes()

    def killed(*_: object) -> None:
        raise TspinError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(tspin.evaluate.temperature, "write_json", killed)
        with pytest.raises(TspinError, match="killed"):
            evaluate(
                config,
                model=model,
                annotated=annotated,
                out=out,
                proto=None,
                iteration=1,
                temperature=2.0,
            )
    assert likelihoods.read_bytes() != before
    evaluate(config, model=model, annotated=annotated, out=out, proto=None, iteration=1)
    assert likelihoods.read_bytes() == before


def test_one_record_is_too_few(sharp: Path, tmp_path: Path) -> None:
    path, out = write_heldout(tmp_path / "heldout.jsonl", 1), tmp_path / "metrics.json"
    with pytest.raises(InputError, match="needs two at least"):
        evaluate(
            config_at(sharp), model=str(sharp), annotated=path, out=out, proto=None, iteration=-1
        )
    assert list(tmp_path.iterdir()) == [path]


def test_one_command_from_sft_to_a_model_that_samples_at_its_temperature(
    tiny_model_dir: Path, annotated: Path, tmp_path: Path
) -> None:
    run, out, again = tmp_path / "run", tmp_path / "exported", tmp_path / "plain"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run_dir: {run}\niterations: 1\nmodel: {{path: {tiny_model_dir}}}\n"
        f"data: {{annotated: {annotated}, heldout: {annotated}}}\n"
        "prompt: {max_length: 128}\ngenerate: {max_new_tokens: 6}\n"
        "train: {learning_rate: 1.0e-3, global_batch_size: 4}\nsystem: {device: cpu}\n"
    )
    given = ["--set", "train.method=sft", "--set", "evaluate.fit_temperature=true"]

    def done(*arguments: object) -> str:
        ran = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    printed = done("run", "--config", config, *given)
    assert "temperature/" in printed
    assert "at the fitted temperature" in (run / "report.html").read_text(encoding="utf-8")
    done("export", run, "--out", out, "--iteration", 0)
    metrics = json.loads((run / "iter-0/metrics.json").read_bytes())["metrics"]
    value = metrics["temperature/fitted"]["value"]
    sampling = GenerationConfig.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    for each in (sampling, model.generation_config):
        assert (each.do_sample, each.temperature, each.top_p, each.top_k) == (True, value, 1.0, 0)
    before = AutoModelForCausalLM.from_pretrained(run / "iter-0/model").generation_config
    assert sampling.eos_token_id == before.eos_token_id
    assert sampling.pad_token_id == before.pad_token_id
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"Sampling is by default at temperature {value:.4g}" in card
    # Without a fit the file stays as the model has it.
    metrics_path = run / "iter-0/metrics.json"
    kept = json.loads(metrics_path.read_bytes())
    del kept["metrics"]["temperature/fitted"]
    metrics_path.write_text(json.dumps(kept))
    done("export", run, "--out", again, "--iteration", 0)
    name = "generation_config.json"
    assert (again / name).read_bytes() == (run / "iter-0/model" / name).read_bytes()
    assert "by default at temperature" not in (again / "README.md").read_text(encoding="utf-8")
