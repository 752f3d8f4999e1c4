from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from tspin.errors import InputError
from tspin.records.training_log import read_train_log, step_rows
from tspin.train.log import TrainLog


def row(step: int) -> dict[str, Any]:
    return {"rewards/margins": 0.1 * step, "epoch": step / 4, "loss": 1 / 3, "step": step} | {
        "learning_rate": 1e-6,
        "grad_norm": 2.5,
    }


SUMMARY = {"train_runtime": 12.3, "train_loss": 0.4, "epoch": 1.0, "step": 4}


def write(path: Path, state: TrainerState, rows: list[dict[str, Any]]) -> None:
    log, control = TrainLog(path), TrainerControl()
    log.on_train_begin(None, state, control)
    for one in rows:
        state.log_history.append(one)
        log.on_log(None, state, control)
    log.on_train_end(None, state, control)


def test_rows_are_steps_in_one_order_without_times() -> None:
    rows = step_rows([row(1), SUMMARY])
    assert [list(one) for one in rows] == [
        ["step", "epoch", "loss", "learning_rate", "grad_norm", "rewards/margins"]
    ]


def test_resumed_log_is_that_of_an_uninterrupted_training(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    write(whole, TrainerState(), [row(1), row(2), row(3), row(4), SUMMARY])
    write(torn, TrainerState(), [row(1), row(2), row(3)])
    with torn.open("ab") as file:
        file.write(b'{"step": 4, "lo')  # killed while writing
    # The checkpoint is of step 2: what came after it is done again.
    write(torn, TrainerState(log_history=[row(1), row(2)]), [row(3), row(4), SUMMARY])
    assert torn.read_bytes() == whole.read_bytes()
    assert [one["step"] for one in read_train_log(whole)] == [1, 2, 3, 4]
    assert read_train_log(whole)[2]["loss"] == 1 / 3  # to the last bit


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, TrainerState(is_world_process_zero=False), [row(1)])
    assert not path.exists()


def test_row_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log, state = TrainLog(path), TrainerState()
    log.on_train_begin(None, state, TrainerControl())
    state.log_history.append(row(1))
    log.on_log(None, state, TrainerControl())
    assert len(read_train_log(path)) == 1
    log.on_train_end(None, state, TrainerControl())


def test_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\n')
    with pytest.raises(InputError, match=r"log\.jsonl:2: not a JSON object"):
        read_train_log(path)


def test_a_line_without_its_newline_is_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st')
    assert read_train_log(path) == [{"step": 1}]
