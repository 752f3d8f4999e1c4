"""Evaluations of a policy whose weights are spread over processes (FSDP2; gloo on the CPU)."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed
from evaluations import config_of, write_heldout
from safetensors.torch import load_file, save_file
from test_architectures import build
from torch.distributed.tensor import DTensor
from training_runs import finish, wait_for
from transformers import PreTrainedTokenizerFast

from tests import warm
from tests.unit.models.policy_folders import save_adapter
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.evaluate.sharing import Findings, Measurement, Temperature
from tspin.evaluate.step import evaluate
from tspin.models.device import resolve_dtype
from tspin.records.seconds import seconds_path

pytestmark = [pytest.mark.integration, pytest.mark.long]

SHARED = {"num_processes": 2, "shard": "on"}
EVALUATE = """
import sys
from pathlib import Path
from tspin.config import RunConfig
from tspin.errors import TspinError
from tspin.evaluate.step import evaluate
from tspin.records.seconds import seconds_path
from tspin.models.device import resolve_dtype
config, model, annotated, out = sys.argv[1:]
config = RunConfig.model_validate_json(config)
try:
    evaluate(
        config, model=model, annotated=Path(annotated), out=Path(out), proto=None, iteration=-1
    )
except TspinError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process starts is forked."""
    monkeypatch.setattr(sys, "executable", warm.python())


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model_dir: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> dict[str, Path]:
    """Full weights, an adapter, tied weights, and a model whose rows are padded."""
    folder = tmp_path_factory.mktemp("shared")
    paths = {"plain": tiny_model_dir}
    for name, kind, settings in (
        ("tied", "llama", {"tie_word_embeddings": True}),
        ("padded", "gemma2", {}),
    ):
        build(kind, settings | {"vocab_size": len(tiny_tokenizer)}).save_pretrained(folder / name)
        tiny_tokenizer.save_pretrained(folder / name)
        paths[name] = folder / name
    paths["adapter"] = save_adapter(tiny_model_dir, folder / "adapter", tiny_tokenizer)
    return paths


PAIRS = [((4, 5 + n % 3, 6), tuple(range(7 + n, 12 + 2 * n))) for n in range(9)]
FIT = Temperature(value=None, first=tuple(n % 2 == 0 for n in range(9)), confidence=0.95)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("plain", {}),
    "adapter": ("adapter", {}),
    "bfloat16": ("plain", {"dtype": "bfloat16"}),
    "adapter in bfloat16": ("adapter", {"dtype": "bfloat16"}),
    "tied": ("tied", {}),
    "padded": ("padded", {}),
    "offloaded": ("plain", {"offload": True}),
    # As many passes as prompts: three, of which one process makes two.
    "odd": ("plain", {"tokens_per_device": 1}),
    # A pass of one process; the other makes none of its own.
    "one": ("plain", {"tokens_per_device": 10000}),
    "fitted": ("adapter", {"temperature": FIT, "tokens_per_device": 1}),
    "taken": ("plain", {"temperature": FIT.model_copy(update={"value": 2.0})}),
}


def measurement(model: Path, settings: dict[str, Any]) -> Measurement:
    own = dict(settings)
    temperature, dtype = own.pop("temperature", None), own.pop("dtype", "auto")
    return Measurement(
        config=config_of(model, settings={"dtype": dtype}, system={**SHARED, **own}),
        model=str(model),
        pad_token_id=0,
        pairs=tuple(PAIRS),
        temperature=temperature,
        threads=1,
    )


def measure_all(rank: int, rendezvous: str, jobs: str) -> None:
    """Leave the findings of each process, and what it holds of the weights."""
    torch.distributed.init_process_group(
        "gloo", init_method=Path(rendezvous).as_uri(), rank=rank, world_size=2
    )
    results = []
    for job in map(Measurement.model_validate, json.loads(jobs)):
        policy = job._shard()
        parameters = list(policy.parameters())
        assert all(isinstance(parameter, DTensor) for parameter in parameters)
        assert not any(parameter.requires_grad for parameter in parameters)
        assert not policy.training
        assert policy.dtype == resolve_dtype(job.config.model, torch.device("cpu"))
        here = sum(parameter.to_local().numel() for parameter in parameters)
        # All tensors here have an even number of rows.
        assert here == sum(parameter.numel() for parameter in parameters) // 2
        results.append(job.by(policy).model_dump(mode="json"))
    Path(f"{rendezvous}-{rank}.json").write_text(json.dumps(results))


@pytest.fixture(scope="module")
def shared(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Findings]]:
    """By case, what each of two processes found."""
    rendezvous = tmp_path_factory.mktemp("measured") / "rendezvous"
    jobs = [measurement(models[model], settings) for model, settings in CASES.values()]
    written = json.dumps([job.model_dump(mode="json") for job in jobs])
    warm.spawn(measure_all, str(rendezvous), written, processes=2)
    by_rank = [json.loads(Path(f"{rendezvous}-{rank}.json").read_bytes()) for rank in range(2)]
    return {
        name: [Findings.model_validate(results[at]) for results in by_rank]
        for at, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_shared_weights_find_what_whole_ones_find(
    name: str, models: dict[str, Path], shared: dict[str, list[Findings]]
) -> None:
    model, settings = CASES[name]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = measurement(models[model], settings).found(1)
    finally:
        torch.set_num_threads(before)
    assert len(set(alone.logps)) == len(PAIRS)
    assert (alone.fitted is not None) == (name == "fitted")
    assert shared[name] == [alone, alone]


def evaluation(model: Path, **system: Any) -> RunConfig:
    return config_of(
        model,
        data={"annotated": "a.jsonl", "heldout": "h.jsonl"},
        evaluate={"fit_temperature": True},
        system=system,
    )


def test_files_of_a_shared_evaluation_are_those_of_one_process(
    models: dict[str, Path], tmp_path: Path
) -> None:
    annotated, model = write_heldout(tmp_path / "heldout.jsonl"), str(models["adapter"])
    folders = []
    for name, system in (("alone", {"threads": 1}), ("shared", {"threads": 1, **SHARED})):
        out = tmp_path / name / "metrics.json"
        evaluate(
            evaluation(models["adapter"], **system),
            model=model,
            annotated=annotated,
            out=out,
            proto=None,
            iteration=-1,
        )
        seconds_path(out).unlink()
        folders.append({path.name: path.read_bytes() for path in out.parent.iterdir()})
    alone, together = folders
    assert len(alone) > 8
    assert together == alone


def test_what_a_process_refuses_is_the_error(models: dict[str, Path], tmp_path: Path) -> None:
    broken, annotated = tmp_path / "broken", write_heldout(tmp_path / "heldout.jsonl")
    shutil.copytree(models["plain"], broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"the safetensors files lack 1 weights.*model\.norm"):
        evaluate(
            evaluation(broken, **SHARED),
            model=str(broken),
            annotated=annotated,
            out=tmp_path / "made" / "metrics.json",
            proto=None,
            iteration=-1,
        )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("target", ["one", "all"])
def test_processes_that_are_ended_leave_nothing(
    target: str, models: dict[str, Path], tmp_path: Path
) -> None:
    """Killed, or told to stop, while they share a fit that takes minutes."""
    annotated = write_heldout(tmp_path / "heldout.jsonl", 1000)
    config = evaluation(models["plain"], tokens_per_device=1, **SHARED)
    out = tmp_path / "made" / "metrics.json"
    process = start("-c", EVALUATE, config.model_dump_json(), models["plain"], annotated, out)
    wait_for(process, lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    if target == "one":
        workers[1].kill()
    else:
        process.send_signal(signal.SIGTERM)
    printed = finish(process)
    psutil.wait_procs(workers)
    if target == "one":
        assert "TspinError: evaluation process 1 was killed (SIGKILL)" in printed
        assert "Run again to continue from what is finished" in printed
    else:
        assert "StoppedError: stopped by SIGTERM; run again to continue" in printed
    assert process.returncode == (1 if target == "one" else 143)
    left = {path.name for path in out.parent.iterdir()}
    assert left == {".metrics.json.begun.json", seconds_path(out).name}


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child] if "tspin.evaluate.worker" in child.cmdline() else []
    return found


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, arguments)]
    return warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_processes_of_torchrun_share(models: dict[str, Path], tmp_path: Path) -> None:
    """The first evaluates; the other helps it, and has the metrics in the end as well."""
    annotated, model = write_heldout(tmp_path / "heldout.jsonl"), models["plain"]
    alone, out = tmp_path / "alone" / "metrics.json", tmp_path / "made" / "metrics.json"
    settings = {"threads": 1, **SHARED}
    path = tmp_path / "config.json"
    path.write_text(evaluation(model, **settings).model_dump_json())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["--config", path, "--model", model, "--annotated", annotated, "--out", out]
    process = start(*torchrun, "--module", "tspin", "evaluate", "--iteration=-1", *arguments)
    printed = finish(process)
    assert process.returncode == 0, printed
    assert printed.count("the weights are spread over 2 processes") == 2
    evaluate(
        evaluation(model, threads=1),
        model=str(model),
        annotated=annotated,
        out=alone,
        proto=None,
        iteration=-1,
    )
    for file in {*alone.parent.iterdir()} - {seconds_path(alone)}:
        assert (out.parent / file.name).read_bytes() == file.read_bytes(), file.name
