"""Prometheus asks a real run while it works: its values are those of the training log."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from collections import defaultdict
from http.client import HTTPException
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families
from whole_runs import Project

from tests.ports import free_port
from tspin.monitoring.families import FAMILIES, INFO, ITERATIONS, PHASES
from tspin.progress.logs import LOG_FORMAT
from tspin.records.training_log import read_train_log

pytestmark = [pytest.mark.integration, pytest.mark.long]

Scrape = dict[tuple[str, str, str], dict[str, float]]
"""Values by name, of each run, iteration and step."""

LONG = ("--set", "train.epochs=20", "--set", "system.checkpoint_steps=10")


class Log:
    """The standard error of a run: the port that it names, and all lines once it has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._lines: list[str] = []
        for line in process.stderr:
            self._lines.append(line)
            if found := re.search(r"metrics for Prometheus on port (\d+)", line):
                self.port = int(found[1])
                break
        else:
            pytest.fail("".join(self._lines))
        self._reader = Thread(target=self._lines.extend, args=(process.stderr,), daemon=True)
        self._reader.start()

    def lines(self) -> list[str]:
        self._reader.join()
        return self._lines


def scrape(port: int) -> Scrape | None:
    """What the endpoint says; None where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
    except (HTTPException, OSError):  # The first: it ended in the midst of its answer.
        return None
    values: Scrape = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            name = "/".join([sample.name, *filter(None, [labels.get("phase")])])
            place = labels["run"], labels.get("iteration", ""), labels.get("step", "")
            assert name not in values[place], f"{name} is there twice"
            values[place][name] = sample.value
    return values


def scrapes(process: subprocess.Popen[str], port: int) -> list[Scrape]:
    """Every answer until the process has ended; from the first line on there must be one."""
    answers = []
    while process.poll() is None:
        answer = scrape(port)
        if answer is not None:
            answers.append(answer)
    return answers


def values(answers: list[Scrape], iteration: int, step: str) -> list[dict[str, float]]:
    return [a["r", str(iteration), step] for a in answers if ("r", str(iteration), step) in a]


def check_training(answers: list[Scrape], project: Project, iteration: int) -> None:
    """Each value that was told of a step is the one that the log has of it."""
    log = read_train_log(project.run_dir / f"iter-{iteration}/train_log.jsonl")
    rows = {row["step"]: row for row in log}
    told = [v for v in values(answers, iteration, "train") if "tspin_train_loss" in v]
    assert len({v["tspin_train_step"] for v in told}) > 3
    for value in told:
        row = rows[value["tspin_train_step"]]
        assert value["tspin_train_loss"] == row["loss"]
        assert value["tspin_train_margin"] == row["rewards/margins"]
        assert value["tspin_train_accuracy_ratio"] == row["rewards/accuracies"]
        assert value["tspin_train_steps"] == len(rows)
        assert value["tspin_tokens_per_second"] > 0
        assert value["tspin_seconds_left"] >= 0
        assert 0 <= value["tspin_train_padding_ratio"] < 1
        assert "tspin_train_mfu_ratio" not in value  # of GPUs alone
        assert 0 <= value["tspin_checkpoint_age_seconds"] < 3600


def check_lines(lines: list[str]) -> None:
    """Each line of the log, of whatever process, is JSON and says where the work was."""
    told = [json.loads(line) for line in lines]
    assert {line["run"] for line in told} == {"r"}
    for iteration in (0, 1):
        steps = {line["step"] for line in told if line["iteration"] == iteration}
        assert steps >= {"train", "evaluate", None}
    training = [line for line in told if line["message"].startswith("step ")]
    assert {(line["iteration"], line["step"]) for line in training} == {(0, "train"), (1, "train")}


@pytest.mark.parametrize(
    "beside", [(), ("system.num_processes=2", "system.evaluate_beside=true")], ids=str
)
def test_the_values_are_those_of_the_log(
    beside: tuple[str, ...], tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOG_FORMAT, "json")
    project = Project(tmp_path / "p", tiny_model_dir)
    options = [word for setting in beside for word in ("--set", setting)]
    process = project.start(*LONG, *options, "--set", "system.metrics_port=0")
    log = Log(process)
    answers = scrapes(process, log.port)
    assert process.returncode == 0, "".join(log.lines())
    for iteration in (0, 1):
        check_training(answers, project, iteration)
    check_lines(log.lines())
    places = {place for answer in answers for place in answer}
    assert {run for run, _, _ in places} == {"r"}
    assert {step for _, _, step in places} >= {"train", "evaluate"}
    for value in (v for step in ("generate", "evaluate") for v in values(answers, 1, step)):
        if "tspin_requests_done" in value:
            assert value["tspin_requests_done"] + value["tspin_requests_open"] in (12, 4)
    known = {f.name for f in (*FAMILIES, INFO, ITERATIONS, PHASES)}
    told = {name.partition("/")[0] for answer in answers for v in answer.values() for name in v}
    assert told <= known
    assert answers[0]["r", "", ""][ITERATIONS.name] == 2
    assert scrape(log.port) is None


def test_a_killed_run_goes_on_and_so_do_its_values(tmp_path: Path, tiny_model_dir: Path) -> None:
    project, port = Project(tmp_path / "p", tiny_model_dir), free_port()
    asked = (*LONG, "--set", f"system.metrics_port={port}")
    process = project.start(*asked)
    log = Log(process)
    step = 0.0
    while step < 21:
        assert process.poll() is None
        training = (scrape(port) or {}).get(("r", "0", "train"), {})
        step = training.get("tspin_train_step", 0.0)
    process.kill()
    process.wait()
    log.lines()
    assert process.returncode == -signal.SIGKILL
    assert scrape(port) is None
    again = project.start(*asked)
    log = Log(again)
    answers = scrapes(again, port)
    assert again.returncode == 0, "".join(log.lines())
    check_training(answers, project, 0)
    first = values(answers, 0, "train")
    told = [v["tspin_train_step"] for v in first if "tspin_train_step" in v]
    # The last checkpoint, or the one before: it may not have got to the disk.
    assert min(told) >= step // 10 * 10 - 10
