"""Presets and requests of lm-evaluation-harness, against the harness's own definitions."""

from __future__ import annotations

from typing import Any

import pytest

from tspin.config import EvaluateConfig
from tspin.errors import InputError
from tspin.harness.folders import TaskFolders
from tspin.harness.requests import PAPER, TaskRequest, task_requests


def requests(*tasks: str, **harness: Any) -> tuple[TaskRequest, ...]:
    return task_requests(EvaluateConfig.model_validate({"tasks": tasks, "harness": harness}))


def test_the_paper_has_ten_tasks_with_its_few_shot_counts() -> None:
    """Few-shot counts of arXiv 2601.08198; all ten by the Open LLM Leaderboard's definitions."""
    assert {each.name.removeprefix("leaderboard_"): each.num_fewshot for each in PAPER} == {
        "gsm8k": 5,
        "math_hard": 4,
        "musr": 0,
        "mmlu": 5,
        "mmlu_pro": 5,
        "gpqa": 0,
        "hellaswag": 10,
        "winogrande": 5,
        "bbh": 3,
        "ifeval": 0,
    }
    normalised = {each.name for each in PAPER if each.headline == "acc_norm,none"}
    assert normalised == {"leaderboard_musr", "leaderboard_gpqa", "hellaswag", "leaderboard_bbh"}
    assert requests("paper") == PAPER
    quick = requests("paper-quick")
    assert [each.name for each in quick] == [each.name for each in PAPER]
    assert {each.fraction for each in quick} == {0.1}


def leaves(name: str, index: dict[str, Any]) -> list[dict[str, Any]]:
    tagged = sorted(index[name].tags) if index[name].cfg is None else None
    members = tagged or index[name].cfg["task"]
    if isinstance(members, str):
        return [index[name].cfg]
    return [leaf for member in members for leaf in leaves(member, index)]


@pytest.mark.parametrize("request_", PAPER, ids=lambda each: each.name)
def test_the_harness_has_the_task_and_its_headline(request_: TaskRequest) -> None:
    tasks = pytest.importorskip("lm_eval.tasks", reason="lm-eval is not installed")
    folders = list(map(str, TaskFolders(None).of([request_.name])))
    index = tasks.TaskManager(include_defaults=False, include_path=folders).task_index
    metric, _, kind = str(request_.headline).partition(",")
    found = leaves(request_.name, index)
    assert found
    for task in found:
        assert metric in {each["metric"] for each in task["metric_list"]}
        assert kind in {each["name"] for each in task.get("filter_list", [{"name": "none"}])}
    top = index[request_.name].cfg
    if "aggregate_metric_list" in top:
        assert metric in {each["metric"] for each in top["aggregate_metric_list"]}


def test_counts_and_fractions_go_over_those_of_a_preset() -> None:
    changed = {each.name: each for each in requests("paper", num_fewshot={"mmlu": 0}, fraction=0.5)}
    assert (changed["mmlu"].num_fewshot, changed["gsm8k"].num_fewshot) == (0, 5)
    assert {each.fraction for each in changed.values()} == {0.5}
    assert requests("arc_easy") == (TaskRequest("arc_easy"),)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (("gsm8k", "paper"), "'gsm8k' is asked for twice"),
        (("paper", "paper-quick"), "'gsm8k' is asked for twice"),
    ],
)
def test_a_task_asked_for_twice_is_refused(tasks: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        requests(*tasks)


def test_tags_are_found_by_the_files_that_bear_them() -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    named = {folder.name for folder in TaskFolders(None).of(["math_word_problems"])}
    assert "gsm8k" in named
    assert TaskFolders(None).of(["no such thing"]) == []
