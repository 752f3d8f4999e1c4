"""The report's content, from run folders written by hand; browsers have a test of their own."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from made_runs import EXACT, SCRIPT, make_run
from report_page import Page

from tspin.report.overview import facts, state, verdict
from tspin.report.page import write_report
from tspin.runs.history import read_history


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_run(tmp_path_factory.mktemp("runs") / "words")
    write_report(path)
    return path


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(run / "report.html")


def test_the_head_says_what_came_of_it(page: Page) -> None:
    assert "Iteration 2 is the best. Exact match, answer_is, greedy: 95.0%" in page.text
    assert "All 3 iterations ran." in page.text
    for fact in ("T-SPIN", "models/base", "iter-2/model", "3 of 3"):
        assert fact in page.text
    assert "Iteration 2: at 7 logged steps more than 90% of the samples" in page.text


def test_evaluation_has_the_base_every_iteration_and_its_intervals(page: Page, run: Path) -> None:
    [points] = page.titled("Exact match, answer_is, greedy")["data"]
    assert points["x"] == ["base", "0", "1", "2"]
    folders = ["base", "iter-0", "iter-1", "iter-2"]
    for at, folder in enumerate(folders):
        metric = json.loads((run / folder / "metrics.json").read_bytes())["metrics"][EXACT]
        assert points["y"][at] == metric["value"]
        assert points["y"][at] + points["error_y"]["array"][at] == pytest.approx(metric["high"])
        assert points["y"][at] - points["error_y"]["arrayminus"][at] == pytest.approx(metric["low"])


def test_curves_run_on_over_the_iterations_and_break_between_them(page: Page, run: Path) -> None:
    curves = {
        curve["name"]: curve for curve in page.titled("Log-likelihood of whole responses")["data"]
    }
    assert list(curves) == ["y (annotated)", "y\u2032 (current policy)", "y\u2080 (initial policy)"]
    annotated = curves["y (annotated)"]
    assert annotated["x"] == [*range(1, 49), None, *range(49, 97), None, *range(97, 145), None]
    log = (run / "iter-1" / "train_log.jsonl").read_text().splitlines()
    assert annotated["y"][49 + 4] == json.loads(log[4])["logps/annotated"]
    assert curves["y\u2080 (initial policy)"]["y"][:49] == [None] * 49


def test_every_figure_that_was_promised_is_there(page: Page) -> None:
    titles = {a.get("aria-label") for tag, a in page.tags if "data-figure" in a}
    promised = {
        "Exact match, answer_is",
        "Negative log-likelihood of held-out annotations",
        "Which response is more likely, held out",
        "Responses cut off at the token limit",
        "Log-likelihood of whole responses",
        "Rewards",
        "Higher reward, yet less likely",
        "Gaps on held-out prompts",
        "Gaps at the end of each iteration's training",
        "Response length on held-out prompts",
        "Length of the responses trained on",
        "Training loss",
    }
    assert promised <= titles
    captions = re.findall(r"<figcaption>.*?<p>(.*?)</p>", page.source, re.DOTALL)
    assert len(page.figures) == len(titles) == len(captions)
    assert all("ook for" in caption for caption in captions)


def test_gaps_at_the_end_of_training_are_differences_of_the_logged_means(
    page: Page, run: Path
) -> None:
    first, second = page.titled("Gaps at the end of each iteration's training")["data"]
    for number in range(3):
        rows = [
            json.loads(line)
            for line in (run / f"iter-{number}" / "train_log.jsonl").read_text().splitlines()
        ][-4:]
        gap = sum(row["logps/annotated"] - row["logps/synthetic"] for row in rows) / 4
        assert first["y"][number] == pytest.approx(gap)
    assert second["x"] == ["1", "2"]


def test_what_a_model_wrote_is_text(page: Page) -> None:
    assert SCRIPT not in page.source
    assert SCRIPT in unescape(page.source)
    assert page.source.count("<script>") == 2
    assert not any(tag == "b" for tag, _ in page.tags)


def test_nothing_is_fetched_and_plotly_stands_in_it_once(page: Page) -> None:
    assert not any(attrs.get("src") for _, attrs in page.tags)
    links = [attrs.get("href") for tag, attrs in page.tags if tag in ("link", "a")]
    assert links == ["data:,"]
    assert len(re.findall(r"plotly\.js v\d", page.source)) == 1
    [policy] = [
        a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_samples_stand_side_by_side_and_name_what_was_cut_off(page: Page) -> None:
    played = page.source.split('id="training-samples"')[1]
    assert played.count('<details class="sample"') == 6
    assert page.text.count("y\u2080, the initial policy (and y\u2032 of iteration 0)") == 6
    assert page.text.count("y\u2032 of iteration 1 cut off at the limit") == 6
    assert page.text.count("y\u2032 of iteration 2") == 6


def test_equal_run_folders_give_equal_bytes(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "words"
    shutil.copytree(run, copy)
    (copy / "report.html").unlink()
    assert write_report(copy).read_bytes() == (run / "report.html").read_bytes()


def test_each_iteration_has_a_bar_of_what_its_time_went_to(page: Page, run: Path) -> None:
    figure = page.titled("Time by iteration")
    bars = {part["name"]: part["y"] for part in figure["data"]}
    assert figure["layout"]["barmode"] == "stack"
    assert figure["layout"]["yaxis"]["title"]["text"] == "minutes"
    assert all(part["x"] == ["base", "0", "1", "2"] for part in figure["data"])
    assert bars["generating"] == pytest.approx([0, 80 / 60, 0, 80 / 60])
    assert bars["training"] == pytest.approx([0, 32 / 60, 64 / 60, 96 / 60])
    assert bars["evaluating"] == pytest.approx([16 / 60] * 4)
    whole = [sum(parts) for parts in zip(*bars.values(), strict=True)]
    assert whole == pytest.approx([20 / 60, 160 / 60, 100 / 60, 240 / 60])
    assert "checkpoints and saving" not in bars
    assert "Nobody timed: generate of 1." in page.text


def test_a_run_that_nobody_timed_has_no_bars(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "words"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns(".*.seconds.json"))
    assert "Where the time went" not in Page(write_report(copy)).text


def test_configuration_and_hashes_stand_at_the_end(page: Page, run: Path) -> None:
    manifest = json.loads((run / "iter-1" / "model.manifest.json").read_bytes())
    assert manifest["sha256"] in page.text
    assert '"extractors": [ "answer_is" ]' in page.text


def test_a_run_on_its_way(tmp_path: Path) -> None:
    run = make_run(tmp_path / "early", iterations=1, planned=4)
    (run / "iter-1").mkdir()
    # A training that is writing its third step at this moment.
    (run / "iter-1" / "train_log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    page = Page(write_report(run))
    assert "Not finished: 1 of 4 iterations are done." in page.text
    [loss] = page.titled("Training loss")["data"]
    assert loss["y"][-2:] == [0.5, None]


def test_a_run_that_has_done_nothing_yet(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "none", iterations=0, heldout=False)))
    assert "No iteration is finished yet" in page.text
    assert "data.heldout is not set" in page.text
    assert page.figures == {}


def test_fine_tuning_without_self_play(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "sft", iterations=1, planned=1, method="sft")))
    assert "Supervised fine-tuning" in page.text
    assert [c["name"] for c in page.titled("Log-likelihood of whole responses")["data"]] == [
        "y (annotated)"
    ]
    assert "initial policy wrote" not in page.text


def test_spin_without_held_out_records_stopped_early(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "spin", iterations=2, method="spin", heldout=False, stopped="it fell back"
    )
    history = read_history(run, samples=1)
    assert state(history) == "Stopped early: it fell back."
    assert "without held-out records" in verdict(history)
    page = Page(write_report(run))
    [shares] = page.titled("Higher reward, yet less likely")["data"]
    assert shares["y"][0] == 0.4


def test_held_out_records_are_not_a_tasks_questions(tmp_path: Path) -> None:
    run = make_run(tmp_path / "asked", iterations=1, planned=1)
    path = run / "iter-0" / "metrics.json"
    content = json.loads(path.read_bytes())
    content["metrics"]["lm_eval/mmlu/acc"] = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 14042}
    path.write_text(json.dumps(content))
    assert dict(facts(read_history(run, samples=0)))["Held-out records"] == "256"


@pytest.mark.parametrize(
    ("metric", "direction", "told"),
    [
        (EXACT, "max", "95.0% (92.4 to 97.7), up from 0.0% ("),
        ("nll_per_token", "min", "0.3299 (0.2999 to 0.3599), down from 0.9 ("),
    ],
)
def test_the_verdict_names_the_base_where_it_was_measured(
    tmp_path: Path, metric: str, direction: str, told: str
) -> None:
    run = make_run(tmp_path / "judged")
    for name, change in (
        ("config.json", {"gate": {"metric": metric, "direction": direction}}),
        ("best.json", {"metric": metric}),
    ):
        content = json.loads((run / name).read_bytes())
        (run / name).write_text(json.dumps(content | change))
    whole = verdict(read_history(run, samples=0))
    assert told in whole
    (run / "base" / "metrics.json").unlink()
    without = verdict(read_history(run, samples=0))
    assert without == f"{whole.rpartition(', ')[0]}."


def test_a_metric_without_wording_is_shown_under_its_own_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "tasks", iterations=1, planned=1)
    path = run / "iter-0" / "metrics.json"
    content = json.loads(path.read_bytes())
    content["metrics"]["gsm8k/strict"] = {"value": 0.5, "low": None, "high": None, "n": 1}
    path.write_text(json.dumps(content))
    page = Page(write_report(run))
    [points] = page.titled("gsm8k")["data"]
    assert (points["x"], points["y"], points["error_y"]["array"]) == (["0"], [0.5], [0.0])
