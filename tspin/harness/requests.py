"""Which tasks of lm-evaluation-harness are asked for, with their few-shot counts: the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tspin.config import EvaluateConfig
from tspin.errors import InputError

__all__ = ["AVERAGE", "PAPER", "PRESETS", "TaskRequest", "task_requests"]


@dataclass(frozen=True)
class TaskRequest:
    """One task or group of tasks, by its name in the harness."""

    name: str
    num_fewshot: int | None = None
    """Solved examples before each question; None takes what the task says."""
    fraction: float = 1.0
    """Share of the questions, above 0."""
    headline: str | None = None
    """`metric,filter` of the harness that stands for the task in an average of tasks."""


PAPER = (
    TaskRequest("gsm8k", 5, headline="exact_match,strict-match"),
    TaskRequest("leaderboard_math_hard", 4, headline="exact_match,none"),
    TaskRequest("leaderboard_musr", 0, headline="acc_norm,none"),
    TaskRequest("mmlu", 5, headline="acc,none"),
    TaskRequest("leaderboard_mmlu_pro", 5, headline="acc,none"),
    TaskRequest("leaderboard_gpqa", 0, headline="acc_norm,none"),
    TaskRequest("hellaswag", 10, headline="acc_norm,none"),
    TaskRequest("winogrande", 5, headline="acc,none"),
    TaskRequest("leaderboard_bbh", 3, headline="acc_norm,none"),
    TaskRequest("leaderboard_ifeval", 0, headline="prompt_level_strict_acc,none"),
)
"""The ten tasks of arXiv 2601.08198: GSM8K, MATH, MuSR, MMLU, MMLU-Pro, GPQA,
HellaSwag, WinoGrande, BBH and IFEval, as the Open LLM Leaderboard defined them."""

PRESETS: Mapping[str, tuple[TaskRequest, ...]] = MappingProxyType(
    {"paper": PAPER, "paper-quick": tuple(replace(task, fraction=0.1) for task in PAPER)}
)
"""Name in `evaluate.tasks` to what it stands for."""

AVERAGE = "lm_eval/paper/average"
"""Metric of the mean over a preset's tasks, as the paper's tables have it."""


def task_requests(config: EvaluateConfig) -> tuple[TaskRequest, ...]:
    """The tasks that a configuration asks for, each with its few-shot count and fraction.

    Raises:
        InputError: a task is named twice, or `num_fewshot` names one that is not asked for.
    """
    requests: dict[str, TaskRequest] = {}
    for name in config.tasks:
        for request in PRESETS.get(name, (TaskRequest(name),)):
            if request.name in requests:
                raise InputError(
                    f"evaluate.tasks: {request.name!r} is asked for twice in {list(config.tasks)}"
                )
            requests[request.name] = request
    counts = config.harness.num_fewshot
    for name in counts.keys() - requests.keys():
        raise InputError(
            f"evaluate.harness.num_fewshot names {name!r}, which is not in evaluate.tasks; "
            f"those are: {', '.join(requests) or 'none'}"
        )
    return tuple(
        replace(
            task,
            num_fewshot=counts.get(name, task.num_fewshot),
            fraction=task.fraction * config.harness.fraction,
        )
        for name, task in requests.items()
    )
