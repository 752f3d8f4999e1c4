"""Tasks of lm-evaluation-harness answered by its vLLM backend, as by the policy in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from vllm_setup import QUICK, engine_processes

from tspin.config import LoraConfig, ModelConfig, RunConfig
from tspin.demo.demo import write_demo
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.models.policy import load_policy, load_tokenizer, save_policy

QUESTIONS = 0.1
"""Of the demo's 256."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


def measured(
    demo: Path,
    backend: str,
    out: Path,
    *,
    model: Path | None = None,
    tasks: tuple[str, ...] = ("demo_answer", "demo_choice"),
    **harness: Any,
) -> dict[str, Any]:
    config = RunConfig.model_validate(
        {
            "run_dir": "unused",
            "model": {"path": str(demo / "base")},
            "data": {"annotated": "unused", "heldout": str(demo / "heldout.jsonl")},
            "prompt": {"template": "instruction", "max_length": 256},
            "generate": {"engine": "transformers", "max_new_tokens": 96},
            "evaluate": {
                "sampled": False,
                "max_records": 4,
                "tasks": tasks,
                "harness": {
                    "task_folder": str(demo / "tasks"),
                    "fraction": QUESTIONS,
                    "backend": backend,
                    **harness,
                },
            },
            "system": {"device": "cpu", "generate_batch_size": 32},
        }
    )
    heldout = demo / "heldout.jsonl"
    policy = str(model or config.model.path)
    evaluate(config, model=policy, annotated=heldout, out=out, proto=None, iteration=-1)
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


@pytest.fixture(scope="module")
def policy(demo: Path) -> Path:
    """A LoRA adapter of a rank that the harness's default would not serve."""
    folder = demo / "adapter"
    config = ModelConfig(path=str(demo / "base"))
    device = torch.device("cpu")
    lora = LoraConfig(r=24, alpha=48)
    made = load_policy(config.path, config, device=device, trainable=True, lora=lora)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.003)
    save_policy(made, load_tokenizer(config.path, config), folder)
    return folder


def both(demo: Path, folder: Path, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of the vLLM backend and of the policy in memory; no process is left."""
    before = engine_processes(psutil.Process())  # Those of other tests.
    arguments = {**QUICK, "kv_cache_memory_bytes": 2**28}
    made = measured(demo, "vllm", folder / "vllm/metrics.json", vllm_args=arguments, **asked)
    assert engine_processes(psutil.Process()) == before
    other = measured(demo, "transformers", folder / "memory/metrics.json", **asked)
    assert made["metrics"].keys() == other["metrics"].keys()
    scores = [
        {name: each for name, each in found["metrics"].items() if name.startswith("lm_eval/")}
        for found in (made, other)
    ]
    assert len(scores[0]) == len(scores[1]) > 0
    return scores[0], scores[1]


def test_both_backends_give_the_same_scores(demo: Path, tmp_path: Path) -> None:
    vllm, memory = both(demo, tmp_path)
    assert {name.split("/")[1] for name in memory} == {"demo_answer", "demo_choice"}
    for name, other in memory.items():
        assert vllm[name]["n"] == other["n"] == 26
        # Another way of adding may turn one answer over, no more.
        assert vllm[name]["value"] == pytest.approx(other["value"], abs=1 / 26 + 1e-9)
    assert any(0 < each["value"] < 1 for each in memory.values())
    made = json.loads((tmp_path / "vllm/metrics.task.demo_choice.json.manifest.json").read_bytes())
    assert made["engine"] == "vllm"


def test_an_adapter_of_a_high_rank_answers_too(demo: Path, policy: Path, tmp_path: Path) -> None:
    """Questions to be answered; the likelihoods of choices fail in vLLM's own LoRA on CPUs."""
    vllm, memory = both(demo, tmp_path, model=policy, tasks=("demo_answer",))
    for name, other in memory.items():
        assert vllm[name]["value"] == pytest.approx(other["value"], abs=1 / 26 + 1e-9)


def test_what_vllm_refuses_is_named(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluate\.harness\.vllm_args: vLLM refuses them"):
        measured(demo, "vllm", tmp_path / "metrics.json", vllm_args={"no_such_argument": 1})
    assert not (tmp_path / "metrics.json").exists()
