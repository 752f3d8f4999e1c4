from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import TrainerControl, TrainerState

from tspin.config import GuardConfig
from tspin.errors import InputError, TspinError
from tspin.tokens.examples import Example, Examples
from tspin.train.guards import Guards, refuse_flat_loss, refuse_not_finite, refuse_unmoved_policy


def examples(*rows: tuple[list[int], ...]) -> Examples:
    return Examples(
        [
            Example(str(i), np.array([1]), tuple(np.array(ids) for ids in row))
            for i, row in enumerate(rows)
        ]
    )


Y, OTHER, LONG = [5, 6, 2], [7, 8, 2], [7] * 9 + [2]


def test_flat_loss() -> None:
    flat = [examples((Y, Y), (OTHER, OTHER)), examples((Y, Y, Y))]
    for data in flat:
        with pytest.raises(InputError, match="cannot decrease"):
            refuse_flat_loss(data, "tspin")
    refuse_flat_loss(examples((Y, Y), (Y, OTHER)), "spin")  # one pair differs
    refuse_flat_loss(examples((Y, Y, OTHER)), "tspin")  # y0 differs: the history still teaches
    refuse_flat_loss(examples((Y,)), "sft")
    refuse_flat_loss(examples((Y, Y)), "tspin", sft_weight=0.1)  # y itself teaches
    refuse_flat_loss(examples((Y, Y)), "sdft")  # as does a teacher, on whichever response


def test_schedule_that_never_leaves_zero() -> None:
    with pytest.raises(InputError, match="nothing would change"):
        refuse_unmoved_policy(steps=1, warmup_steps=1)
    refuse_unmoved_policy(steps=1, warmup_steps=0)
    refuse_unmoved_policy(steps=2, warmup_steps=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite(value: float) -> None:
    with pytest.raises(TspinError, match=rf"loss is {value} at step 3; records: r0, .*and 2 more"):
        refuse_not_finite("loss", value, 3, [f"r{i}" for i in range(10)])
    refuse_not_finite("loss", 1e30, 3, [])


def row(step: int, *, logp: float = -10.0, saturated: float = 0.0) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": 0.0,
        "loss": 0.5,
        "learning_rate": 1e-6,
        "grad_norm": 1.0,
        "logps/annotated": logp,
        "lengths/annotated": 10.0,
        "rewards/saturated": saturated,
    }


def started(steps: int, history: list[dict[str, Any]] | None = None) -> tuple[Guards, TrainerState]:
    guards = Guards(GuardConfig())
    state = TrainerState(max_steps=steps, log_history=history or [])
    guards.on_train_begin(None, state, TrainerControl())
    return guards, state


def play(guards: Guards, state: TrainerState, rows: list[dict[str, Any]]) -> dict[int, list[str]]:
    for one in rows:
        state.log_history.append(dict(one))
        guards.on_log(None, state, TrainerControl())
    return {r["step"]: r["warnings"] for r in state.log_history if "warnings" in r}


def test_fall_of_annotated_logps_warns_once() -> None:
    guards, state = started(5)
    # -1.0 nats a token at the start; the threshold is 0.2 below that.
    falling = [row(1), row(2, logp=-11.9), row(3, logp=-12.1), row(4, logp=-20.0), row(5)]
    warned = play(guards, state, falling)
    assert list(warned) == [3]
    assert "fallen by 0.21 nats per token" in warned[3][0]
    assert guards.counts["annotated_logps_drop"] == 2


def test_one_odd_batch_of_a_long_training_does_not_warn() -> None:
    guards, state = started(100)
    rows = [row(step, logp=-25.0 if step == 50 else -10.0) for step in range(1, 101)]
    assert play(guards, state, rows) == {}
    guards, state = started(100)
    rows = [row(step, logp=-10.0 if step < 50 else -25.0) for step in range(1, 101)]
    assert list(play(guards, state, rows)) == [51]  # two of ten low ones: 0.3 nats


def test_saturation_warns_once() -> None:
    guards, state = started(4)
    shares = [0.9, 0.91, 1.0, 0.2]
    warned = play(guards, state, [row(i, saturated=s) for i, s in enumerate(shares, start=1)])
    assert list(warned) == [2]
    assert "91% of the samples" in warned[2][0]
    assert guards.counts["saturated_share"] == 2


def test_lengths_warn_on_the_first_row() -> None:
    guards, state = started(2)
    guards.check_lengths(examples((Y, OTHER)))
    assert guards.counts["length_drift"] == 0
    guards.check_lengths(examples((Y, LONG)))
    warned = play(guards, state, [row(1), row(2)])
    assert list(warned) == [1]
    assert "10.0 tokens on average, annotated ones 3.0" in warned[1][0]
    shorter = Guards(GuardConfig())
    shorter.check_lengths(examples((LONG, Y)))
    assert shorter.counts["length_drift"] == 1


def test_resumed_training_warns_as_one_that_never_stopped() -> None:
    rows = [row(step, logp=-10.0 - step, saturated=step / 10) for step in range(1, 11)]
    whole, whole_state = started(10)
    warned = play(whole, whole_state, rows)
    stopped, stopped_state = started(10)
    play(stopped, stopped_state, rows[:7])
    resumed, resumed_state = started(10, stopped_state.log_history)
    assert play(resumed, resumed_state, rows[7:]) == warned
    assert resumed.counts == whole.counts
