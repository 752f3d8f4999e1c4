"""Rows of a study as its final runs leave them, without any run."""

from __future__ import annotations

from typing import Any

from study.arms import CONTROL, TSPIN
from study.verdicts import PLAIN, SPIN


def make_run(arm: str, seed: int, greedy: list[float], test: float, kept: float) -> dict[str, Any]:
    """A run with this exactness by iteration and on test."""
    share = {SPIN: 0.5}.get(arm, 0.0)
    iterations = [
        {
            "greedy": value,
            "train/logps/annotated": -1.0 + 0.01 * seed,
            "train/logps/synthetic": -5.0,
            "train/rewards/higher_but_less_likely": share + 0.01 * seed,
        }
        for value in greedy
    ]
    scores = {
        "annotated/greedy": test,
        "annotated/sampled": test,
        "right/greedy": test,
        "nll_per_token": 1.0,
        "retained/greedy": kept,
        "retained/sampled": kept,
        "retained/nll_per_token": 1.0,
        "distinct_bigrams": 0.5,
        "differs_from_greedy": 0.5,
    }
    cost = {"generated_tokens": 1, "trained_tokens": 1, "flops": 1.0, "seconds": {"train": 1.0}}
    return {
        "skill": "sums",
        "base": "weak",
        "arm": arm,
        "seed": seed,
        "learning_rate": 1e-4,
        "epochs": 2,
        "cost": cost,
        "test": dict.fromkeys(("base", "best", "last"), scores),
        "iterations": iterations,
    }


def make_runs(tspin_test: float = 0.9, spin_last: float = 0.4) -> list[dict[str, Any]]:
    rows = []
    for seed in range(3):
        noise = 0.01 * seed
        rows += [
            make_run(TSPIN, seed, [0.5, 0.7, 0.9 + noise], tspin_test + noise, 0.6 + noise),
            make_run(PLAIN, seed, [0.4, 0.5, 0.6 + noise], 0.6, 0.6),
            make_run(SPIN, seed, [0.5, 0.8, spin_last + noise], 0.4, 0.4),
            make_run("sft", seed, [0.5, 0.7, 0.8], 0.8, 0.3),
            make_run(CONTROL, seed, [0.5, 0.7, 0.8], 0.8, 0.3),
        ]
    return rows
