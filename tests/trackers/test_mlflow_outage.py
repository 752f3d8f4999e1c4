"""An MLflow server that is killed while a training goes on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import tspin.tracking.sender
from tests.ports import free_port
from tests.trackers.mlflow_server import MlflowServer
from tests.trackers.tracked_run import at_steps, make_config
from tspin.records.manifest import content_hash
from tspin.records.training_log import read_train_log
from tspin.selfplay import run
from tspin.tracking.server import Point, TrackedRun
from tspin.tracking.values import LOSS

pytestmark = pytest.mark.trackers

TRAIN = {"epochs": 3}
"""Nine steps."""


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], bool]:
    """Whether a line with these words was logged."""
    caplog.set_level(logging.INFO, logger="tspin.tracking")
    return lambda words: any(words in record.getMessage() for record in caplog.records)


def test_a_training_goes_on_and_the_server_gets_what_it_missed(
    tmp_path: Path,
    tiny_model_dir: Path,
    server: MlflowServer,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[str], bool],
) -> None:
    config = make_config(tmp_path, tiny_model_dir, "mlflow", train=TRAIN, iterations=1)

    def curve() -> list[tuple[int, float]]:
        runs = server.runs(experiment)
        return runs["iteration 0"].curve("train/loss") if "iteration 0" in runs else []

    def lose_the_server() -> None:
        wait_until(lambda: [step for step, _ in curve()] == [1, 2, 3])
        server.kill()

    at_steps(
        monkeypatch,
        step3=lose_the_server,
        step6=lambda: wait_until(lambda: said("the work goes on, and it gets the rest")),
        step8=server.start,
    )
    folder = run(config)
    assert said("answers again, and has got what it missed")
    assert not said("did not get")
    rows = read_train_log(folder.iteration(0).train_log)
    assert len(rows) == 9
    assert curve() == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    assert {r.status for r in server.runs(experiment).values()} == {"FINISHED"}


def test_what_a_server_did_not_get_is_named_and_sent_by_the_next_call(
    tmp_path: Path,
    tiny_model_dir: Path,
    server: MlflowServer,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(tmp_path, tiny_model_dir, "mlflow", train=TRAIN, iterations=1)
    # What the server holds is not enough: it may be killed before its answer is read.
    confirmed: list[int] = []
    add = TrackedRun.add

    def add_and_note(to: TrackedRun, points: Iterable[Point]) -> None:
        points = [*points]
        add(to, points)
        confirmed.extend(point.step for point in points if point.name == LOSS)

    monkeypatch.setattr(TrackedRun, "add", add_and_note)

    def lose_the_server() -> None:
        wait_until(lambda: confirmed == [1, 2, 3, 4])
        server.kill()

    at_steps(monkeypatch, step4=lose_the_server)
    run(config)
    (missing,) = [text for text in caplog.messages if "did not get" in text]
    assert server.uri in missing
    assert "iteration 0: the curves of steps 5 to 9, " in missing
    assert "model, metrics.json" in missing
    assert "report.html" in missing
    server.start()
    folder = run(config)
    runs = server.runs(experiment)
    rows = read_train_log(folder.iteration(0).train_log)
    assert [step for step, _ in runs["iteration 0"].curve("train/loss")] == [
        r["step"] for r in rows
    ]
    assert [step for step, _ in runs["run"].curve("heldout/nll_per_token")] == [-1, 0]
    assert runs["run"].artifacts == ["report.html"]
    assert runs["run"].status == "FINISHED"


def test_a_killed_training_goes_on_in_the_same_run_and_no_step_comes_twice(
    tmp_path: Path,
    tiny_model_dir: Path,
    server: MlflowServer,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"train": TRAIN, "iterations": 1}
    config = make_config(tmp_path, tiny_model_dir, "mlflow", **values)
    system = config.system.model_copy(update={"checkpoint_steps": 2})
    config = config.model_copy(update={"system": system})

    def die() -> None:
        wait_until(lambda: "iteration 0" in server.runs(experiment))
        wait_until(lambda: len(server.runs(experiment)["iteration 0"].curve("train/loss")) == 5)
        raise KeyboardInterrupt

    at_steps(monkeypatch, step5=die)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    assert {r.status for r in server.runs(experiment).values()} == {"KILLED", "FINISHED"}
    begun = server.runs(experiment)["run"].id
    folder = run(config)
    runs = server.runs(experiment)
    assert runs["run"].id == begun
    rows = read_train_log(folder.iteration(0).train_log)
    assert runs["iteration 0"].curve("train/loss") == [
        (row["step"], pytest.approx(row["loss"])) for row in rows
    ]
    assert {r.status for r in runs.values()} == {"FINISHED"}


def test_no_server_at_all_costs_a_warning(
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: MlflowServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = run(make_config(tmp_path / "plain", tiny_model_dir, iterations=1))
    nobody = f"http://reader:secret-of-reader@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    monkeypatch.setattr(tspin.tracking.sender, "PATIENCE", 0.5)
    caplog.set_level(logging.DEBUG)
    told = run(make_config(tmp_path / "told", tiny_model_dir, "mlflow", iterations=1))
    assert content_hash(told.iteration(0).model) == content_hash(plain.iteration(0).model)
    assert [text for text in caplog.messages if "did not get" in text]
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("tspin")]
    assert not [text for text in ours if "secret-of-reader" in text]
    files = [path for path in told.path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret-of-reader" in path.read_bytes()]
    assert os.environ["MLFLOW_TRACKING_URI"] == nobody
