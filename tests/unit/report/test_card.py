"""The card of an exported model, from run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run

from tspin.records.manifest import manifest_path
from tspin.report.card import model_card
from tspin.runs.history import read_history


def card_of(run: Path) -> str:
    """The card of the run's first model."""
    history = read_history(run, samples=0)
    told: dict[str, Any] = {"name": "me/model", "sha256": "0" * 64, "adapter": False}
    return model_card(history, 0, **told, base=None, temperature=None, ends=["</s>"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", iterations=1, planned=1)


def configure(run: Path, **sections: dict[str, Any]) -> None:
    """Change the configuration of a run folder."""
    path = run / "config.json"
    content = json.loads(path.read_bytes())
    for name, section in sections.items():
        content[name] |= section
    path.write_text(json.dumps(content))


def record(run: Path, **fields: Any) -> None:
    """Change the manifest of the model; None leaves a field out."""
    path = manifest_path(run / "iter-0" / "model")
    content = {**json.loads(path.read_bytes()), **fields}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_the_commit_is_told_of_whom_it_is(run: Path) -> None:
    record(run, versions={"tspin": "1.2"}, git_commit="aaaa111", tspin_commit="bbbb222")
    card = card_of(run)
    assert "with tspin 1.2 (commit `bbbb222`), from" in card
    assert "| git commit of the project's folder | `aaaa111` |" in card


def test_a_commit_that_may_be_anybodys_is_not_told(run: Path) -> None:
    """Manifests of earlier releases have one, of the project or of tspin."""
    record(run, versions={"tspin": "1.0"}, git_commit="aaaa111", tspin_commit=None)
    card = card_of(run)
    assert "with tspin 1.0, from" in card
    assert "aaaa111" not in card


def test_schedule_and_warm_up_are_told(run: Path) -> None:
    configure(run, train={"schedule": "cosine", "warmup_ratio": 0.25})
    assert "- schedule: cosine, after a warm-up over 25% of the steps\n" in card_of(run)


@pytest.mark.parametrize(
    ("section", "setting", "line"),
    [
        ("train", {"sft_weight": 0.3}, "- weight of the annotation's likelihood in the loss: 0.3"),
        ("train", {"length_normalised": True}, "- length-normalised: each summed"),
        ("triplets", {"same_answer": "last_number"}, "as the extractor `last_number` finds it"),
        ("train", {"weight_decay": 0.01}, "- weight decay: 0.01"),
        ("train", {"max_grad_norm": 5.0}, "- gradient clipped at: 5.0"),
    ],
)
def test_what_is_not_the_papers_method_is_told_where_it_is_used(
    run: Path, section: str, setting: dict[str, Any], line: str
) -> None:
    assert line not in card_of(run)
    configure(run, **{section: setting})
    assert line in card_of(run)


def test_what_a_chat_template_is_asked_with_is_told(run: Path) -> None:
    assert "chat_template_kwargs" not in card_of(run)
    asked = {"chat_template": "own.jinja", "chat_template_kwargs": {"enable_thinking": False}}
    configure(run, prompt={"template": "chat", **asked})
    card = card_of(run)
    assert '`{"enable_thinking": false}`' in card
    assert "stands in this folder" in card


def test_a_teacher_is_told_of_in_one_line(run: Path) -> None:
    configure(run, train={"method": "sdft", "sdft_divergence": "reverse"})
    card = card_of(run)
    assert "- divergence: reverse\n- teacher's prompt: `{prompt} This is an example for" in card
    assert "including the thinking process.`\n" in card
    assert "- link:" not in card


def test_a_longer_history_has_the_same_coefficients(run: Path) -> None:
    configure(run, train={"method": "tspin_all", "beta": 0.3})
    assert "- alpha: 1.0\n- beta: 0.3 (0 at iteration 0)\n- link: logistic\n" in card_of(run)
