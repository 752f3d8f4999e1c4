"""What a plan says of tasks is what an evaluation asks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from typer.testing import CliRunner

from tspin.cli.main import app
from tspin.config import RunConfig
from tspin.demo.demo import write_demo
from tspin.evaluate.step import evaluate
from tspin.harness.lengths import task_lengths
from tspin.harness.requests import task_requests
from tspin.models.policy import load_tokenizer

pytestmark = pytest.mark.integration


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    write_demo(tmp_path / "demo")
    return RunConfig.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "model": {"path": str(tmp_path / "demo/base")},
            "data": {
                "annotated": str(tmp_path / "demo/annotated.jsonl"),
                "heldout": str(tmp_path / "demo/heldout.jsonl"),
            },
            "prompt": {"template": "instruction", "max_length": 256},
            "generate": {"engine": "fake", "max_new_tokens": 96},
            "evaluate": {
                "sampled": False,
                "max_records": 4,
                "tasks": ["demo_answer", "demo_choice"],
                "harness": {"task_folder": str(tmp_path / "demo/tasks"), "fraction": 0.1},
            },
        }
    )


def test_requests_and_their_tokens_are_those_that_are_asked(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 26 questions each, all of whose prompts are built."""
    tokenizer = load_tokenizer(config.model.path, config.model)
    asked: dict[str, Counter[tuple[int, int]]] = {}

    def listen(kind: str) -> Any:
        own = getattr(HFLM, kind)

        def ask(self: HFLM, requests: list[Any], **options: Any) -> Any:
            sizes = asked.setdefault(kind, Counter())
            for request in requests:
                text, other = request.args
                own_tokens = len(tokenizer.encode(other)) if isinstance(other, str) else 0
                sizes[len(tokenizer.encode(text)), own_tokens] += 1
            return own(self, requests, **options)

        return ask

    for kind in ("loglikelihood", "generate_until"):
        monkeypatch.setattr(HFLM, kind, listen(kind))
    folder = Path(str(config.evaluate.harness.task_folder))
    system = config.system.model_copy(update={"device": "cpu", "generate_batch_size": 4})
    evaluate(
        config.model_copy(update={"system": system}),
        model=config.model.path,
        annotated=Path(str(config.data.heldout)),
        out=tmp_path / "metrics.json",
        proto=None,
        iteration=-1,
    )
    answer, choice = (
        counted
        for request in task_requests(config.evaluate)
        for counted in task_lengths(request, folder, lambda text: len(tokenizer.encode(text)))
    )
    scored = Counter((one.prompt, one.response) for one in choice.lengths)
    assert scored == asked["loglikelihood"]
    assert choice.requests == sum(scored.values()) > 26
    prompts = Counter((one.prompt, 0) for one in answer.lengths)
    assert prompts == asked["generate_until"]
    assert answer.requests == 26
    assert all(0 < one.response <= one.most for one in answer.lengths)


def test_a_plan_shares_an_evaluation_out_and_says_what_it_cannot_count(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())

    def planned(*arguments: str) -> dict[str, Any]:
        command = ["plan", "--config", str(path), "--device", "h100", "--json", *arguments]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        content: dict[str, Any] = json.loads(result.stdout)
        return content

    def evaluation(plan: dict[str, Any]) -> dict[str, Any]:
        stages = {one["stage"]: one for one in plan["stages"]}
        found: dict[str, Any] = stages["evaluate"]
        return found

    one, eight = planned("--gpus", "1"), planned("--gpus", "8")
    bare = planned("--gpus", "1", "--set", "evaluate.tasks=[]")
    assert evaluation(eight)["flops"] == evaluation(one)["flops"] > evaluation(bare)["flops"]
    assert evaluation(one)["responses"] == evaluation(bare)["responses"] + 26
    # Few answers a GPU: each reads all weights for every token all the same.
    seconds = evaluation(one)["seconds"]
    assert seconds / 8 <= evaluation(eight)["seconds"] < seconds / 2
    assert any("requests of 2 tasks (most: demo_choice" in text for text in one["assumptions"])
    hub = planned("--gpus", "1", "--set", "evaluate.tasks=[gsm8k]", "--set", "iterations=1")
    [left_out] = [text for text in hub["assumptions"] if "the task gsm8k is not in it" in text]
    assert "`tspin fetch-tasks gsm8k`" in left_out
    assert evaluation(hub)["flops"] == evaluation(bare)["flops"]
