"""Training, generation and evaluation on a base in four bits (`model.quantize`)."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import (
    asked_of,
    finish,
    make_job,
    saved,
    start,
    wait_for,
    write_sayings,
    write_triplets,
)
from transformers import AutoModelForCausalLM

from tests import warm
from tspin.config import RunConfig
from tspin.export.model import export_model
from tspin.models.policy import load_policy
from tspin.records.manifest import is_current, read_manifest
from tspin.records.training_log import read_train_log
from tspin.selfplay import run
from tspin.train.job import TrainJob
from tspin.train.reference import reference_key
from tspin.train.step import run_job, train

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

LORA = {"r": 4, "dropout": 0.1}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("quantized")
    write_triplets(made / "triplets.jsonl")
    return made


def four_bits(folder: Path, model: Path, name: str, **settings: Any) -> TrainJob:
    """With one thread, as that of `trained` has to be, too, which is made before `one_thread`."""
    defaults: dict[str, Any] = {"lora": LORA, "method": "spin", "quantize": "nf4"}
    system = {"threads": 1, **settings.pop("system", {})}
    return make_job(folder, model, name, system=system, **defaults | settings)


@pytest.fixture(scope="module")
def trained(folder: Path, tiny_model_dir: Path) -> TrainJob:
    """A training with a reference pass, which ends far from where it began."""
    job = four_bits(folder, tiny_model_dir, "whole", epochs=10)
    run_job(job)
    return job


def log_of(job: TrainJob) -> list[dict[str, Any]]:
    return read_train_log(job.out.parent / "train_log.jsonl")


def files_of(job: TrainJob) -> dict[str, bytes]:
    names = ("model/adapter_model.safetensors", "train_log.jsonl", "model.manifest.json")
    return {name: (job.out.parent / name).read_bytes() for name in names}


def test_the_loss_falls_from_where_the_reference_is(trained: TrainJob) -> None:
    losses = [row["loss"] for row in log_of(trained)]
    assert len(losses) == 30
    # The reference is the quantised base itself: at learning rate 0 nothing differs from it.
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert sum(losses[-5:]) / 5 < 0.5
    assert {path.name for path in trained.out.glob("*.safetensors")} == {
        "adapter_model.safetensors"
    }


def test_manifests_and_caches_tell_it_from_a_training_on_the_base_as_it_is(
    trained: TrainJob, folder: Path, tiny_model_dir: Path
) -> None:
    manifest = read_manifest(trained.out)
    assert manifest is not None and manifest.parameters["quantize"] == "nf4"
    assert is_current(trained.out, manifest)
    without = {k: v for k, v in manifest.parameters.items() if k != "quantize"}
    plain = manifest.model_copy(update={"parameters": without})
    assert not is_current(trained.out, plain)
    assert reference_key(manifest) != reference_key(plain)

    # As every manifest of an earlier release: no word of it.
    job = make_job(folder, tiny_model_dir, "plain", lora=LORA, epochs=1)
    assert "quantize" not in run_job(job).parameters


def test_rows_are_packed_and_checkpointed_activations_change_nothing(
    folder: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [
        four_bits(folder, tiny_model_dir, f"activations-{kept}", epochs=1, system=system)
        for kept, system in (("kept", {}), ("again", {"gradient_checkpointing": True}))
    ]
    for job in jobs:
        run_job(job)
    assert "rows are padded" not in caplog.text  # As `choose_passes` says where it packs none.
    assert log_of(jobs[0]) == log_of(jobs[1])
    weights = [load_file(job.out / "adapter_model.safetensors") for job in jobs]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_killed_and_resumed_it_ends_with_the_same_bytes(
    trained: TrainJob, folder: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = four_bits(folder, tiny_model_dir, "killed", epochs=10)
    process = start(job)
    wait_for(process, lambda: saved(job.checkpoints, 4))
    process.send_signal(signal.SIGKILL)
    finish(process)
    caplog.set_level("INFO", "tspin")
    run_job(job)
    assert "training continues after step" in caplog.text
    assert "one pass of the reference policy" not in caplog.text
    assert files_of(job) == files_of(trained)


def test_two_processes_are_one(
    folder: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm.python())
    settings = {"epochs": 1, "lora": {"r": 4}, "method": "tspin_ref"}
    two = {"num_processes": 2, "tokens_per_device": 1}
    shared = four_bits(folder, tiny_model_dir, "two", system=two, **settings)
    train(**asked_of(shared))
    alone = four_bits(folder, tiny_model_dir, "one", **settings)
    run_job(alone)
    ours, theirs = (load_file(job.out / "adapter_model.safetensors") for job in (shared, alone))
    moved = max(float(weight.abs().max()) for name, weight in ours.items() if "lora_B" in name)
    assert moved > 1e-3
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5)


def test_a_whole_run_and_its_export(folder: Path, tiny_model_dir: Path) -> None:
    write_sayings(folder, annotated=6, heldout=3)
    config = RunConfig.model_validate(
        {
            "run_dir": str(folder / "run"),
            "iterations": 2,
            "model": {"path": str(tiny_model_dir), "quantize": "nf4"},
            "data": {name: str(folder / f"{name}.jsonl") for name in ("annotated", "heldout")},
            "prompt": {"max_length": 96},
            "generate": {"engine": "transformers", "max_new_tokens": 8},
            "train": {"epochs": 1, "learning_rate": 1e-3, "global_batch_size": 4, "lora": {"r": 4}},
            "evaluate": {"sampled": False},
            "system": {"device": "cpu"},
        }
    )
    run(config)
    names = ("synthetic.jsonl", "metrics.json", "model")
    for output in (folder / f"run/iter-{number}" / name for number in (0, 1) for name in names):
        manifest = read_manifest(output)
        assert manifest is not None and manifest.parameters["quantize"] == "nf4", output
        # Not what the same configuration asks for without it.
        without = {k: v for k, v in manifest.parameters.items() if k != "quantize"}
        assert not is_current(output, manifest.model_copy(update={"parameters": without}))

    model, merged = folder / "run/iter-1/model", folder / "merged"
    export_model(folder / "run", model, 1, out=merged, merge=True, name="merged")
    assert "in four bits (nf4)" in (merged / "README.md").read_text()
    assert "quantization_config" not in (merged / "config.json").read_text()
    # On the base as it is: what was trained answers a little otherwise.
    whole, quantised = (
        load_policy(
            str(model),
            config.model.model_copy(update={"quantize": scheme}),
            device=CPU,
            trainable=False,
        )
        for scheme in ("none", "nf4")
    )
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(merged).eval()(ids).logits
        torch.testing.assert_close(logits, whole(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
        assert (logits - quantised(input_ids=ids).logits).abs().max() > 1e-2
