"""The GPU benchmark on a CPU: every part at toy size, and whether what it found can be."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.parts import kernels, longest, resume
from benchmarks.gpu.parts.generation import generate_and_train
from benchmarks.gpu.plan import PARTS, TOY
from benchmarks.gpu.request import Request
from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.lengths import PROFILES
from benchmarks.training.models import make_model
from tests import warm
from tspin.engines.choice import find_vllm
from tspin.train.job import TrainJob
from tspin.train.step import run_job

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> Request:
    request = Request(TOY, 1, str(tmp_path_factory.mktemp("gpu")), "benchmarks/gpu.sh --toy")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make_model(TOY.model, request.model, torch.float32)
    return request


class Published:
    """What a part has published last."""

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def __call__(self, result: Any) -> None:
        # As it stands then: what changes later must be published again.
        self.result = json.loads(json.dumps(result))


def test_packed_rows_by_each_kernel(request_of: Request) -> None:
    publish = Published()
    kernels.measure(request_of, publish)
    assert publish.result["responses"] == 9
    (found,) = publish.result["precisions"].values()
    assert list(found) == ["padded", "varlen", "flex", "segments"]
    for name in ("varlen", "flex", "segments"):
        # Not 0: another order of additions.
        assert 0 < found[name]["off_padded"] < 1e-4
        assert found[name]["seconds"] > 0
    assert found["flex"]["gradient_off_padded"] is None
    assert 0 < found["varlen"]["gradient_off_padded"] < 1e-5


def test_a_kernel_that_is_wrong_is_found(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kernels.segment_attention

    def blind(query: Any, key: Any, value: Any, layout: Any, **settings: Any) -> Any:
        return own(query, key, value, layout, **settings | {"window": 3})

    monkeypatch.setattr(kernels, "segment_attention", blind)
    publish = Published()
    with pytest.raises(RuntimeError, match="segments in float32"):
        kernels.measure(request_of, publish)
    assert publish.result["precisions"]["float32"]["segments"]["off_padded"] > 1e-4


def test_generating_and_training_in_one_process(request_of: Request, tmp_path: Path) -> None:
    publish = Published()
    # The engine that needs nothing else; vLLM's own are the lines of `measure`.
    generate_and_train(request_of, publish, "transformers")
    result = publish.result
    assert result["prompts"] == TOY.prompts
    assert TOY.prompts <= result["tokens"] <= TOY.prompts * TOY.new_tokens
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["seconds"])
    assert list(result["free_bytes"]) == ["before", "with the engine", "after it"]
    assert result["training"]["steps"] == 3


def test_the_longest_pass_is_the_last_that_fits(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    class Trainer:
        def __init__(self, batch: int) -> None:
            self.batch = batch

        def train(self) -> None:
            if self.batch > 3:
                raise torch.OutOfMemoryError
            trained.append(self.batch)

    monkeypatch.setitem(longest.CONTENDERS, "tspin", lambda task, _out: Trainer(task.batch))
    monkeypatch.setattr(longest, "_CONTENDERS", ("tspin",))
    publish = Published()
    longest.measure(replace(request_of, sizes=replace(TOY, limit_tokens=None)), publish)
    found = publish.result["contenders"]["tspin"]
    assert [one["triplets"] for one in found["tried"]] == [1, 2, 4, 3]
    assert trained == [1, 2, 3]
    assert found["triplets"] == 3
    assert found["tokens"] == sum(row.packed for row in PROFILES["short"].make(3, 0))


@pytest.mark.bench
def test_other_bytes_after_a_kill_are_found(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(job: TrainJob) -> None:
        run_job(job)
        if job.out.parent.name == "killed":
            with (job.out / "config.json").open("a") as file:
                file.write(" ")

    monkeypatch.setattr(resume, "_trained", trained)
    publish = Published()
    told = "not the same bytes: model/config.json; weights are up to 0 apart, and an uninterrupted"
    with pytest.raises(RuntimeError, match=f"{told} training does repeat its own bytes"):
        resume.measure(request_of, publish)
    same = publish.result["same_bytes"]
    assert [name for name in same if not same[name]] == ["model/config.json"]


@dataclass
class Run:
    """One run of the script."""

    outcome: dict[str, Any]
    section: str
    code: int

    def result(self, name: str) -> dict[str, Any]:
        part = self.outcome["parts"][name]
        assert part["status"] == "done", part
        result: dict[str, Any] = part["result"]
        return result


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything, as a user starts it, but for new interpreters."""
    folder = tmp_path_factory.mktemp("script")
    found, document = folder / "found.json", folder / "page.md"
    document.write_text("before\n<!-- gpu -->\n<!-- /gpu -->\nafter\n")
    options = ["--toy", "--gpus", "2"]
    files = ["--json", str(found), "--document", str(document)]
    done = subprocess.run(
        ["benchmarks/gpu.sh", *options, *files],
        cwd=ROOT,
        env={**os.environ, "PYTHON": warm.python(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.is_file(), done.stderr
    yield Run(json.loads(found.read_text()), document.read_text(), done.returncode)


@pytest.mark.bench
def test_every_part_of_the_script_runs(toy_run: Run) -> None:
    outcome = toy_run.outcome
    assert toy_run.code == 0, outcome
    expected = {part.name: "done" for part in PARTS}
    if find_vllm() is None:
        expected["generation"] = "not run"
        assert "vLLM is not installed" in outcome["parts"]["generation"]["reason"]
    assert {name: part["status"] for name, part in outcome["parts"].items()} == expected
    environment = toy_run.result("prepare")["environment"]
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["command"].startswith("benchmarks/gpu.sh --toy --gpus 2")
    assert (environment["gpus"], outcome["toy"]) == ([], True)
    assert toy_run.section.startswith("before\n<!-- gpu -->\n\nToy size on a CPU")
    for part in PARTS[1:]:
        assert f"**{part.title}.**" in toy_run.section


@pytest.mark.bench
def test_the_script_measures_steps(toy_run: Run) -> None:
    result = toy_run.result("step")
    found = result["profiles"]["short"]
    assert found["contenders"].keys() == CONTENDERS.keys()
    assert result["matrix_flops_per_second"] > 1e8
    for name, speeds in found["contenders"].items():
        assert speeds["triplets_per_second"] == found["per_second"][name]
        # Prompt and responses have about 50 tokens each; TRL takes a prompt with each response.
        tokens = speeds["tokens_per_second"] / speeds["triplets_per_second"]
        expected = 150 if name == "tspin_iteration0" else 200
        assert tokens == pytest.approx(expected, rel=0.1)
        assert 0 < speeds["mfu"] < 1
        assert found["peak_memory_bytes"][name] > 100 * 2**20


@pytest.mark.bench
def test_the_script_measures_memory(toy_run: Run) -> None:
    cases = toy_run.result("memory")["cases"]
    weights = 4 * 20.8e6
    for case in cases.values():
        # With so short sequences it is mostly weights; a CPU's malloc gives little back.
        assert weights < case["allocated_bytes"] < 20 * weights
        assert 0.2 < case["estimated_over_allocated"] < 5
    assert cases["LoRA"]["allocated_bytes"] < cases["all weights"]["allocated_bytes"]


@pytest.mark.bench
def test_the_script_kills_and_continues(toy_run: Run) -> None:
    result = toy_run.result("resume")
    # Between the checkpoint and the kill a step is lost.
    assert (result["killed_at"], result["continued_after"], result["steps"]) == (4, 3, 6)
    assert result["steps_done"] < 6
    same = result["same_bytes"]
    for name in ("model/model.safetensors", "train_log.jsonl", "model.manifest.json"):
        assert same[name] is True
    assert all(same.values())
    assert result["weights_apart"] == 0


@pytest.mark.bench
def test_the_script_shards(toy_run: Run) -> None:
    result = toy_run.result("sharding")
    for name in ("ddp", "sharded"):
        assert len(result[name]["allocated_bytes"]) == 2
        assert min(result[name]["allocated_bytes"]) > 0
        assert result[name]["steps"] == 6
        assert result[name]["tokens_per_second"] > 0
    # Learning rate 1e-6: RMSProp moves a weight by 1e-5 at the first step.
    assert result["weights_apart"] < 1e-5


@pytest.mark.bench
def test_the_script_finds_the_longest_pass(toy_run: Run) -> None:
    contenders = toy_run.result("longest")["contenders"]
    assert contenders.keys() == {"tspin", "trl_reference"}
    for found in contenders.values():
        assert 0 < found["tokens"] <= TOY.limit_tokens
        too_long = {one["triplets"] for one in found["tried"] if not one["fits"]}
        assert found["triplets"] + 1 in too_long
    lengths = PROFILES["short"].make(contenders["tspin"]["triplets"], 0)
    assert contenders["tspin"]["tokens"] == sum(row.packed for row in lengths)
