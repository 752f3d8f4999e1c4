"""What compare.json holds, written by hand, for the tests of the page."""

from __future__ import annotations

from typing import Any

from made_runs import EXACT, log_row, metrics

from tspin.compare.arms import parse_arms
from tspin.compare.dynamics import dynamics
from tspin.config import RunConfig, resolved

ITERATIONS = 2
RECORDS = 400


def make_comparison(*names: str, steps: int = 12) -> dict[str, Any]:
    """Of one seed and two iterations; the methods are as good as their `metrics` say."""
    config = RunConfig.model_validate(
        {
            "run_dir": "runs/demo",
            "iterations": ITERATIONS,
            "model": {"path": "models/base"},
            "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
            "gate": {"metric": EXACT, "direction": "max"},
        }
    )
    arms = [
        _arm(arm.name, arm.method, arm.share, arm.matched, steps=steps) for arm in parse_arms(names)
    ]
    return {"arms": arms, "paired": [], "against": names[0], "config": resolved(config)}


def _arm(name: str, method: str, share: float, matched: bool, *, steps: int) -> dict[str, Any]:
    by_label = {
        "base" if number < 0 else str(number): metrics(number, method)["metrics"]
        for number in range(-1, ITERATIONS)
    }
    logs = [
        [log_row(step, steps, number, method) for step in range(1, steps + 1)]
        for number in range(ITERATIONS)
    ]
    cost = {"generated_tokens": 10, "trained_tokens": 20, "flops": 1e9, "seconds": {"train": 1.0}}
    run = {"seed": 0, "iterations": ITERATIONS, "epochs": 1, "best": 0, "stopped": None}
    return {
        "name": name,
        "method": method,
        "share": share,
        "matched": matched,
        "records": round(RECORDS * share),
        "values": {
            "heldout": {"base": by_label["base"], "best": by_label["0"], "last": by_label["1"]}
        },
        # In the order in which JSON with sorted keys has them.
        "by_iteration": dict(sorted(by_label.items())),
        "training": dynamics([logs], 0.95),
        "runs": [{**run, "cost": cost}],
    }
