"""Tasks of lm-evaluation-harness answered by its vLLM backend, as by the policy in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from vllm_setup import QUICK, engine_processes

from tspin.config import RunConfig
from tspin.demo import write_demo
from tspin.evaluate import evaluate

QUESTIONS = 0.1
"""Of the demo's 256."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


def measured(demo: Path, backend: str, out: Path, **harness: Any) -> dict[str, Any]:
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
                "tasks": ["demo_answer", "demo_choice"],
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
    evaluate(config, model=config.model.path, annotated=heldout, out=out, proto=None, iteration=-1)
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


def test_both_backends_give_the_same_scores(demo: Path, tmp_path: Path) -> None:
    arguments = {**QUICK, "kv_cache_memory_bytes": 2**28}
    vllm = measured(demo, "vllm", tmp_path / "vllm/metrics.json", vllm_args=arguments)
    memory = measured(demo, "transformers", tmp_path / "memory/metrics.json")
    names = [name for name in memory["metrics"] if name.startswith("lm_eval/")]
    assert {name.split("/")[1] for name in names} == {"demo_answer", "demo_choice"}
    assert vllm["metrics"].keys() == memory["metrics"].keys()
    for name in names:
        one, other = vllm["metrics"][name], memory["metrics"][name]
        assert one["n"] == other["n"] == 26
        # Another way of adding may turn one answer over, no more.
        assert one["value"] == pytest.approx(other["value"], abs=1 / 26 + 1e-9)
    assert any(0 < memory["metrics"][name]["value"] < 1 for name in names)
    made = json.loads((tmp_path / "vllm/metrics.task.demo_choice.json.manifest.json").read_bytes())
    assert made["engine"] == "vllm"
    assert engine_processes(psutil.Process()) == []
