"""The benchmark of training steps, at toy size."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import trl.trainer.utils
import typer
from typer.testing import CliRunner

from benchmarks.training.command import run
from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.models import make_model
from benchmarks.training.rounds import _Stage, run_rounds
from benchmarks.training.task import Task

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """The command silences this process; the tests after it want to hear warnings."""
    log, verbosity = logging.getLogger("tspin"), transformers.utils.logging.get_verbosity()
    level = log.level
    with warnings.catch_warnings():
        yield
    log.setLevel(level)
    transformers.utils.logging.set_verbosity(verbosity)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    torch.manual_seed(0)
    make_model("toy", tmp_path / "model", torch.float32)
    return Task("short", batch=3, steps=2, model="toy", folder=str(tmp_path / "model"))


def first_step(task: Task, name: str, out: Path) -> dict[str, float]:
    trainer = CONTENDERS[name](task, out)
    trainer.train()
    row: dict[str, float] = trainer.state.log_history[0]
    return row


def test_all_contenders_train_on_the_same_pairs(task: Task, tmp_path: Path) -> None:
    pairs = {
        name: first_step(task, name, tmp_path / name)
        for name in ("trl_reference", "trl_precomputed")
    }
    for name in ("tspin", "tspin_iteration0"):
        triplets = first_step(task, name, tmp_path / name)
        for one in pairs.values():
            assert triplets["logps/annotated"] == pytest.approx(one["logps/chosen"], rel=1e-5)
            assert triplets["logps/synthetic"] == pytest.approx(one["logps/rejected"], rel=1e-5)


def test_trl_scores_completion_tokens_only(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    given: Callable[..., Any] = trl.trainer.utils._ChunkedLogProbFunction.apply

    class Spy:
        @staticmethod
        def apply(hidden: torch.Tensor, *others: Any) -> Any:
            scored.append(len(hidden))
            return given(hidden, *others)

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", Spy)
    CONTENDERS["trl_reference"](task, tmp_path).train()
    lengths = task.lengths()
    steps = [
        sum(sum(row.responses[:2]) for row in lengths[start : start + task.batch])
        for start in range(0, len(lengths), task.batch)
    ]
    # The policy and the reference, step by step.
    assert scored == [tokens for step in steps for tokens in (step, step)]


def test_contenders_are_gone_before_memory_is_measured(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What measures peak memory runs in other processes of the same machine."""
    left: list[int] = []
    clear = _Stage.clear

    def cleared(stage: _Stage) -> None:
        clear(stage)
        left.append(sum(issubclass(type(it), transformers.Trainer) for it in gc.get_objects()))

    monkeypatch.setattr(_Stage, "clear", cleared)
    (one,) = run_rounds(task, 1, tmp_path / "out")
    assert one.seconds.keys() == CONTENDERS.keys()
    assert left == [0]


@pytest.mark.bench
def test_the_command_writes_ratios_and_raw_figures(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("<!-- training -->\n<!-- /training -->\n")
    command = [sys.executable, "benchmarks/training_step.py", "--profile", "short"]
    options = ["--rounds", "1", "--batch", "8", "--model-size", "toy"]
    files = ["--json", str(tmp_path / "found.json"), "--document", str(document)]
    done = subprocess.run([*command, *options, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    short = found["profiles"]["short"]
    assert short["ratios"].keys() == {
        "vs_trl_reference",
        "vs_trl_precomputed",
        "iteration0_vs_trl_reference",
        "peak_memory_vs_trl_reference",
    }
    assert min(short["ratios"].values()) > 0
    assert len(short["rounds"]) == 1
    assert short["rounds"][0]["seconds"].keys() == CONTENDERS.keys()
    assert min(short["peak_memory_bytes"].values()) > 100 * 2**20
    assert short["peak_memory_bytes"].keys() == CONTENDERS.keys()
    assert "trl 1.16" in document.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--profile", "long"], "'long' is none of ultrachat-like"),
        (["--model-size", "3b"], "'3b' is none of toy"),
        (["--device", "cuda"], "torch sees no GPU here"),
        (["--longest-batch"], "needs --device cuda"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    app = typer.Typer()
    app.command()(run)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, options)
    assert done.exit_code == 2
    assert message in done.stderr
