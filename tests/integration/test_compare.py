"""Methods side by side on a tiny model: one run each, shared outputs, matched compute, kills."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_runs import wait_for, write_sayings
from whole_runs import started

from tspin.records.records import AnnotatedRecord, read_records

pytestmark = pytest.mark.integration

METHODS = "tspin@0.5,spin@0.5,sft_matched@0.5,sft"


class Project:
    """A folder with data, a configuration, and the command."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.out = folder / "runs/r-compare"
        folder.mkdir()
        write_sayings(folder, annotated=12, heldout=6, test=5)
        (folder / "run.yaml").write_text(
            f"run_dir: runs/r\niterations: 2\nmodel: {{path: {model}}}\n"
            "data: {annotated: annotated.jsonl, heldout: heldout.jsonl}\n"
            "prompt: {template: instruction, max_length: 128}\n"
            "generate: {max_new_tokens: 12}\n"
            "train: {epochs: 1, learning_rate: 1.0e-3, global_batch_size: 4}\n"
            "system: {generate_batch_size: 8}\n"
        )

    def start(self, *options: str) -> subprocess.Popen[str]:
        return started(self.folder, "compare", "--config", "run.yaml", *options)

    def run(self, *options: str) -> tuple[int, str, str]:
        process = self.start(*options)
        out, err = process.communicate()
        return process.returncode, out, err

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "compare.json").read_bytes())
        return found


FITTED = ("--set", "evaluate.fit_temperature=true")
OPTIONS = ("--methods", METHODS, "--measure", "test=test.jsonl", *FITTED)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Project:
    """Killed in the second method's training, then continued."""
    project = Project(tmp_path_factory.mktemp("compare") / "p", tiny_model_dir)
    process = project.start(*OPTIONS)
    wait_for(process, (project.out / "seed-0/spin@0.5/iter-0/model").is_dir)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    code, out, err = project.run(*OPTIONS)
    assert code == 0, err
    assert "tspin@0.5" in out
    assert "page: runs/r-compare/compare.html" in out
    return project


def test_every_method_has_a_run_and_values_on_every_set(project: Project) -> None:
    result = project.result()
    assert [arm["name"] for arm in result["arms"]] == METHODS.split(",")
    for arm in result["arms"]:
        assert set(arm["values"]) == {"heldout", "test"}
        assert set(arm["by_iteration"]) == {"base", "0", "1"}
        for moments in arm["values"].values():
            assert all("nll_per_token" in moments[each] for each in ("base", "best", "last"))
        assert (project.out / "seed-0" / arm["name"] / "report.html").is_file()
    test = result["arms"][0]["values"]["test"]
    assert test["last"]["nll_per_token"]["n"] == 5
    assert [arm["records"] for arm in result["arms"]] == [6, 6, 6, 12]


def test_training_is_told_step_by_step(project: Project) -> None:
    arms = {arm["name"]: arm["training"] for arm in project.result()["arms"]}
    for name, training in arms.items():
        for number, told in enumerate(training):
            path = project.out / f"seed-0/{name}/iter-{number}/train_log.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert told["steps"] == [len(rows)]
            logged = [row["logps/annotated"] for row in rows]
            assert told["curves"]["logps/annotated"] == pytest.approx(logged, rel=1e-5)
    last = arms["spin@0.5"][1]
    assert set(last["gaps"]) == {"annotated_synthetic"}
    assert "rewards/higher_but_less_likely" in last["curves"]
    assert set(arms["tspin@0.5"][1]["gaps"]) == {"annotated_synthetic", "synthetic_proto_synthetic"}


def test_further_sets_are_measured_at_the_temperature_of_the_heldout_records(
    project: Project,
) -> None:
    result = project.result()
    for arm in result["arms"]:
        heldout, test = (arm["values"][each]["last"] for each in ("heldout", "test"))
        assert {"nll_per_token/fitted", "exact_match/exact/fitted"} <= heldout.keys() & test.keys()
        assert "temperature/fitted" not in test
        name = f"seed-0/{arm['name']}/measured/test/iter-1/metrics.temperature.json"
        used = json.loads((project.out / name).read_bytes())["value"]
        assert used == heldout["temperature/fitted"]["value"]
    paired = {row["metric"] for row in result["paired"] if row["over"] == "records"}
    assert {"nll_per_token/fitted", "exact_match/exact/fitted"} <= paired


def test_shares_are_nested_and_what_is_alike_is_made_once(project: Project) -> None:
    share = list(read_records(project.out / "data/annotated-0.5.jsonl", AnnotatedRecord))
    assert len(share) == 6
    runs = project.out / "seed-0"
    for name in ("proto.jsonl", "heldout_proto.jsonl", "base/metrics.json"):
        mine, other = runs / "tspin@0.5" / name, runs / "spin@0.5" / name
        assert mine.stat().st_mtime_ns < other.stat().st_mtime_ns
        assert mine.read_bytes() == other.read_bytes()
    assert not (runs / "sft/proto.jsonl").exists()
    spent = {
        arm: json.loads((runs / arm / "seconds.json").read_bytes()) for arm in METHODS.split(",")
    }
    # Not evaluated again: its time is the first one's, plus that of seeing that it is there.
    assert spent["spin@0.5"]["base"] > 0.5 * spent["tspin@0.5"]["base"]


def test_the_control_gets_the_compute_of_the_dearest_and_less_than_an_epoch_more(
    project: Project,
) -> None:
    arms = {arm["name"]: arm["runs"][0] for arm in project.result()["arms"]}
    target = max(arms[name]["cost"]["flops"] for name in ("tspin@0.5", "spin@0.5"))
    control = arms["sft_matched@0.5"]
    epoch = control["cost"]["flops"] / (2 * control["epochs"])
    assert control["cost"]["flops"] >= target
    assert control["cost"]["flops"] - target < 2 * epoch
    assert (
        arms["sft"]["cost"]["generated_tokens"] == 0 < arms["spin@0.5"]["cost"]["generated_tokens"]
    )
    run = json.loads((project.out / "seed-0/sft_matched@0.5/config.json").read_bytes())
    assert run["train"]["epochs"] == control["epochs"] > 1


def test_differences_pair_and_the_page_shows_them(project: Project) -> None:
    result = project.result()
    [row] = [
        row
        for row in result["paired"]
        if (row["arm"], row["dataset"], row["moment"], row["metric"])
        == ("sft", "heldout", "last", "nll_per_token")
    ]
    last = {arm["name"]: arm["values"]["heldout"]["last"] for arm in result["arms"]}
    difference = [last[name]["nll_per_token"]["value"] for name in ("sft", "tspin@0.5")]
    assert row["value"] == pytest.approx(difference[0] - difference[1])
    assert row["low"] < row["value"] < row["high"]
    page = (project.out / "compare.html").read_text()
    assert "minus tspin@0.5" in page
    assert "Tokens generated" in page
    assert "How much annotated data it takes" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=.http", page)


@pytest.fixture
def _as_loud_as_before() -> Iterator[None]:
    """The program says what its process logs; this process is that of other tests too."""
    logs = [logging.getLogger(name) for name in (None, "tspin")]
    levels = [log.level for log in logs]
    handlers = logs[0].handlers[:]
    yield
    logging.captureWarnings(capture=False)
    logs[0].handlers[:] = handlers
    for log, level in zip(logs, levels, strict=True):
        log.setLevel(level)


@pytest.mark.usefixtures("_as_loud_as_before")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "tspni,sft"), "did you mean 'tspin'"),
        (("--set-for", "dpo:train.beta=1"), "'dpo' is none of the methods compared"),
        (("--set-for", "spin:train.method=sft"), "what a comparison sets itself"),
        (("--set-for", "sft_matched:train.epochs=9"), "its epochs follow from"),
        (("--set-for", "spin:train.btea=1"), "did you mean 'beta'"),
        (("--measure", "a=missing.jsonl"), "no such file"),
        (("--measure", "heldout=test.jsonl"), "expected NAME=FILE"),
        (("--seeds", "1,1"), "give different numbers"),
        (("--methods", "tspin,space", "--set", "train.link=exponential"), "--methods space: fiel"),
        (("--set", "data.heldout=null"), "data.heldout is not set"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    project: Project,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    from tspin.cli import main

    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(
        sys, "argv", ["tspin", "compare", "--config", "run.yaml", "--out", "new", *options]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capfd.readouterr().err
    assert not (project.folder / "new").exists()


def test_another_setting_is_refused_in_the_same_folder(project: Project) -> None:
    before = (project.out / "compare.json").read_bytes()
    code, _, err = project.run(*OPTIONS, "--set", "train.beta=0.5")
    assert code == 2
    assert "train.beta: 0.1 -> 0.5" in err
    assert (project.out / "compare.json").read_bytes() == before
