"""A model's scores on a task, as the harness computes them."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch

from tspin.harness.loading import LoadedTask
from tspin.harness.quiet import quiet

__all__ = ["ask", "chosen_questions", "score"]

_BOOTSTRAPS = 1000
"""Resamples for the standard error of a metric that is no mean."""


def score(model: Any, task: LoadedTask, *, chat_template: bool, seed: int) -> dict[str, Any]:
    """Ask a model the questions of a task.

    Args:
        model: From `policy_model` or `vllm_model`.
        task: From `load_task`.
        chat_template: Ask through the model's chat template, few-shot examples as turns.
        seed: Of tasks that sample. The global random state is left alone.

    Returns:
        `shown`, the names that stand for the request (its own; for a group without a score of its
        own those of its members), and `tasks`: for each task and group by name `version`,
        `num_fewshot`, `n` (questions) and `scores`, from `metric,filter` to `value` and `stderr`.
    """
    from lm_eval.evaluator import evaluate

    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        results = evaluate(
            lm=model,
            task_dict=task.loaded,
            samples=chosen_questions(task),
            bootstrap_iters=_BOOTSTRAPS,
            log_samples=False,
            apply_chat_template=chat_template,
            fewshot_as_multiturn=chat_template,
        )
    scored = {name: _scores(name, results) for name in results["results"]}
    own = scored.get(task.request.name, {"scores": {}})
    return {
        "shown": [task.request.name] if own["scores"] else sorted(task.loaded["tasks"]),
        "tasks": {name: scores for name, scores in sorted(scored.items()) if scores["scores"]},
    }


def ask(model: Any, task: LoadedTask, *, chat_template: bool, seed: int) -> None:
    """Put the requests of a task to a model as `score` does, and make no scores of the answers.

    Args:
        model: What keeps its answers (`tspin.harness.blocks.BlockwiseModel`).
        task: From `load_task`.
        chat_template: As of `score`.
        seed: As of `score`.
    """
    questions = chosen_questions(task) or {}
    requests: dict[str, list[Any]] = {}
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        # As lm_eval.evaluator.evaluate begins (0.4.13), in the order of its requests.
        for name, each in task.loaded["tasks"].items():
            each.build_all_requests(
                samples=questions.get(name),
                apply_chat_template=chat_template,
                fewshot_as_multiturn=chat_template,
                chat_template=model.apply_chat_template if chat_template else None,
                tokenizer_name=model.tokenizer_name if chat_template else "",
            )
            for instance in each.instances:
                same = [instance] * instance.repeats
                requests.setdefault(instance.request_type, []).extend(same)
        for kind, instances in requests.items():
            getattr(model, kind)(instances)


def chosen_questions(task: LoadedTask) -> dict[str, list[int]] | None:
    """By task, which of its questions are asked; None is all of all."""
    if task.request.fraction == 1:
        return None
    return {
        name: _chosen(name, len(each.eval_docs), task.request.fraction)
        for name, each in task.loaded["tasks"].items()
    }


def _scores(name: str, results: Any) -> dict[str, Any]:
    metrics = results["results"][name]
    values = {key: value for key, value in metrics.items() if "," in key and _is_number(value)}
    scores = {
        key: {"value": float(value), "stderr": _stderr(metrics, key)}
        for key, value in sorted(values.items())
        if not key.split(",")[0].endswith("_stderr")
    }
    return {
        "version": str(results["versions"].get(name, "")),
        "num_fewshot": results["n-shot"].get(name),
        "n": metrics.get("sample_len", 0),
        "scores": scores,
    }


def _stderr(values: Any, key: str) -> float | None:
    metric, _, kind = key.partition(",")
    value = values.get(f"{metric}_stderr,{kind}")
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _chosen(task: str, count: int, fraction: float) -> list[int]:
    """The questions whose hash is lowest: the same on every machine, and never none."""
    ranked = sorted(range(count), key=lambda at: hashlib.sha256(f"{task}/{at}".encode()).digest())
    return sorted(ranked[: math.ceil(count * fraction)])
