"""Train logs of several seeds become one curve of bounded length, and gaps with intervals."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tspin.compare.dynamics import dynamics


def rows(*annotated: float | None, synthetic: float = -2.0) -> list[dict[str, Any]]:
    return [
        {"step": step, "logps/annotated": value, "logps/synthetic": synthetic, "loss": 1.0}
        for step, value in enumerate(annotated, start=1)
    ]


def test_one_seed_within_the_limit_keeps_every_step() -> None:
    [first, second] = dynamics([[rows(-4, -3), rows(-2, None, -1)]], 0.95)
    assert first["steps"] == [2]
    assert first["curves"] == {"logps/annotated": [-4, -3], "logps/synthetic": [-2, -2]}
    assert second["curves"]["logps/annotated"] == [-2, None, -1]


def test_a_long_log_is_cut_into_parts_and_no_step_is_left_out() -> None:
    # 200 points for two iterations are 100 each; 250 steps are parts of 2 and 3.
    log = rows(*(float(step) for step in range(250)))
    curve = dynamics([[log, log]], 0.95)[1]["curves"]["logps/annotated"]
    assert len(curve) == 100
    assert curve[:2] == [0.5, 3.0]  # Means of 0, 1 and of 2, 3, 4.
    assert curve[-1] == 248.0
    weighted = [value * (2 if at % 2 == 0 else 3) for at, value in enumerate(curve)]
    assert sum(weighted) == sum(range(250))


@pytest.mark.parametrize("iterations", [1, 3, 7, 200, 300])
def test_a_curve_has_at_most_200_points_and_one_an_iteration(iterations: int) -> None:
    made = dynamics([[rows(*[-1.0] * 500)] * iterations], 0.95)
    points = [len(each["curves"]["logps/annotated"]) for each in made]
    assert min(points) >= 1
    assert sum(points) <= max(200, iterations)


def test_seeds_of_unlike_length_are_averaged_over_the_same_parts_of_training() -> None:
    short, long = [rows(-4, -2)], [rows(-8, -8, -6, -6)]
    for seeds, steps in (([short, long], [2, 4]), ([long, short], [4, 2])):
        [made] = dynamics(seeds, 0.95)
        assert made["steps"] == steps
        assert made["curves"]["logps/annotated"] == [-6, -4]


def test_a_seed_that_stopped_early_is_in_the_iterations_it_came_to() -> None:
    first, second = dynamics([[rows(-4)], [rows(-6), rows(-1)]], 0.95)
    assert first["curves"]["logps/annotated"] == [-5]
    assert second["steps"] == [1]
    assert second["curves"]["logps/annotated"] == [-1]


def test_gaps_at_the_end_are_over_the_last_tenth_with_an_interval_over_seeds() -> None:
    start = [-9.0] * 18
    [made] = dynamics([[rows(*start, -1, -2)], [rows(*start, 0, -1)]], 0.95)
    gap = made["gaps"]["annotated_synthetic"]
    # Of the seeds 0.5 and 1.5: Student's t with one degree of freedom at 0.975 is 12.706.
    assert gap["value"] == 1.0
    assert gap["high"] - gap["value"] == pytest.approx(12.706 * 0.5, abs=1e-3)
    assert gap["n"] == 2
    assert "synthetic_proto_synthetic" not in made["gaps"]


def test_one_seed_has_no_interval_and_fine_tuning_no_gap() -> None:
    [played] = dynamics([[rows(-1)]], 0.95)
    assert played["gaps"]["annotated_synthetic"] == {
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 1,
    }
    [tuned] = dynamics([[[{"step": 1, "logps/annotated": -math.pi}]]], 0.95)
    assert tuned == {"steps": [1], "curves": {"logps/annotated": [-3.14159]}, "gaps": {}}
