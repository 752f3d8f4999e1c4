"""The comparison's page, from numbers written by hand; a browser has a test of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_comparisons import make_comparison
from made_runs import EXACT, log_row, metrics
from report_page import Page

from tspin.compare.page import write_page
from tspin.report.figures import style_at

GREEDY = "Exact match, answer_is, greedy"
ARMS = ("tspin@0.25", "spin@0.25", "sft@0.25", "with_nll=tspin@0.5", "sft", "tspin")
NAMES = [name.partition("=")[0] for name in ARMS]


def drawn(result: dict[str, Any], folder: Path) -> Page:
    path = folder / "compare.html"
    write_page(result, path)
    return Page(path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return drawn(make_comparison(*ARMS), tmp_path_factory.mktemp("compare"))


def lines(page: Page, title: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in page.titled(title)["data"]}


def test_evaluation_begins_with_the_initial_policy_for_every_method(page: Page) -> None:
    found = lines(page, GREEDY)
    assert list(found) == NAMES
    for line in found.values():
        assert line["x"] == ["base", "0", "1"]
        values = [metrics(number, "tspin")["metrics"][EXACT]["value"] for number in (-1, 0, 1)]
        assert line["y"] == values


def test_every_heldout_metric_has_a_figure(page: Page) -> None:
    titles = {a.get("aria-label") for tag, a in page.tags if "data-figure" in a}
    assert {
        "Exact match, answer_is, sampled",
        "Negative log-likelihood of held-out annotations",
        "Which response is more likely, held out, y over y\u2032",
        "Which response is more likely, held out, y\u2032 over y\u2080",
        "Log-likelihood per token, held out, y (annotated)",
        "Responses cut off at the token limit, greedy",
        "Responses cut off at the token limit, sampled",
        "Response length on held-out prompts, greedy",
        "Response length on held-out prompts, sampled",
    } <= titles


def test_tasks_of_the_harness_are_drawn_and_their_average_is_in_the_tables(tmp_path: Path) -> None:
    result = make_comparison("tspin", "sft")
    score = {"value": 0.41, "low": 0.4, "high": 0.42, "n": 9}
    for arm in result["arms"]:
        for found in (*arm["by_iteration"].values(), *arm["values"]["heldout"].values()):
            found |= {"lm_eval/paper/average": score, "lm_eval/gsm8k/exact_match": score}
    page = drawn(result, tmp_path)
    assert lines(page, "lm-eval, paper, average")["tspin"]["y"] == [0.41] * 3
    assert lines(page, "lm-eval, gsm8k, exact_match")["sft"]["y"] == [0.41] * 3
    head = page.source.split("<thead>")[1].split("</thead>")[0]
    assert "lm-eval, paper, average" in head
    assert "gsm8k" not in head


def test_curves_run_over_the_training_of_all_iterations(page: Page) -> None:
    found = lines(page, "Log-likelihood of y in training")
    assert list(found) == NAMES
    curve = found["spin@0.25"]
    # Twelve steps an iteration: the first stands in the middle of the first twelfth.
    assert curve["x"][:2] == pytest.approx([0.5 / 12, 1.5 / 12])
    assert (curve["x"][12], curve["y"][12]) == (None, None)
    assert curve["x"][13] == pytest.approx(1 + 0.5 / 12)
    assert curve["y"][13] == pytest.approx(log_row(1, 12, 1, "spin")["logps/annotated"], rel=1e-5)


def test_rewards_and_shares_are_those_of_the_methods_that_have_them(page: Page) -> None:
    for title in (
        "Log-likelihood of y\u2032 in training",
        "Reward of y",
        "Reward of y\u2032",
        "Reward of y above that of y\u2032",
        "Saturated: no gradient left",
    ):
        assert list(lines(page, title)) == ["tspin@0.25", "spin@0.25", "with_nll", "tspin"]
    shares = lines(page, "Higher reward, yet less likely")
    assert {value for value in shares["spin@0.25"]["y"] if value is not None} == {0.4}
    assert {value for value in shares["tspin"]["y"] if value is not None} == {0.0}


def test_gaps_are_drawn_held_out_and_at_the_end_of_training(page: Page) -> None:
    heldout = lines(page, "logp(y) \u2212 logp(y\u2032), held out")
    expected = [
        metrics(n, "spin")["metrics"]["margins/annotated_synthetic"]["value"] for n in (-1, 0, 1)
    ]
    assert heldout["spin@0.25"]["y"] == expected
    trained = lines(page, "logp(y) \u2212 logp(y\u2032), in training")
    last = log_row(12, 12, 1, "spin")  # A tenth of twelve steps is one.
    assert trained["spin@0.25"]["x"] == ["0", "1"]
    assert trained["spin@0.25"]["y"][1] == last["logps/annotated"] - last["logps/synthetic"]
    history = lines(page, "logp(y\u2032) \u2212 logp(y\u2080), in training")
    assert list(history) == ["tspin@0.25", "with_nll", "tspin"]
    assert history["tspin"]["x"] == ["1"]


def test_shares_of_one_method_are_a_line_and_a_label_is_a_point_of_its_own(page: Page) -> None:
    for moment, number in (("best", 0), ("last", 1)):
        found = lines(page, f"{GREEDY}: heldout, {moment}")
        records = {name: line["text"] for name, line in found.items() if "text" in line}
        assert records == {
            "tspin": ["100", "400"],
            "spin": ["100"],
            "sft": ["100", "400"],
            "with_nll": ["200"],
        }
        value = metrics(number, "tspin")["metrics"][EXACT]["value"]
        assert found["sft"]["y"] == [value, value]
        initial = metrics(-1, "tspin")["metrics"][EXACT]["value"]
        assert found["initial policy"]["y"] == [initial, initial]
        # Beside each other, so that equal points do not hide each other, and still in order.
        first = [line["x"][0] for line in found.values() if line.get("text", [""])[0] == "100"]
        assert len({*first}) == 3
        assert max(first) < 120


def test_initial_policies_that_differ_are_told_apart(tmp_path: Path) -> None:
    result = make_comparison("tspin@0.5", "warm=tspin")
    result["arms"][1]["values"]["heldout"]["base"] = metrics(0, "tspin")["metrics"]
    found = lines(drawn(result, tmp_path), f"{GREEDY}: heldout, last")
    assert found["initial policy of tspin@0.5"]["y"][0] == 0.0
    assert found["initial policy of warm"]["y"][0] > 0.6


def test_one_share_has_no_figure_of_data_efficiency(tmp_path: Path) -> None:
    page = drawn(make_comparison("tspin@0.5", "sft@0.5"), tmp_path)
    assert "annotated data it takes" not in page.text
    assert not any(
        "heldout, last" in str(a.get("aria-label")) for _, a in page.tags if "data-figure" in a
    )


def test_a_method_looks_alike_in_every_figure(page: Page) -> None:
    for title in (
        GREEDY,
        "Log-likelihood of y in training",
        "Reward of y",
        "logp(y\u2032) \u2212 logp(y\u2080), in training",
    ):
        for name, line in lines(page, title).items():
            style = style_at(NAMES.index(name))
            assert line["line"]["color"] == style.color
            assert (line["line"]["dash"], line["marker"]["symbol"]) == (style.dash, style.symbol)


def test_no_two_of_forty_methods_differ_by_colour_alone() -> None:
    assert len({(style_at(at).dash, style_at(at).symbol) for at in range(40)}) == 40


def test_steps_and_early_stops_are_told(tmp_path: Path) -> None:
    result = make_comparison("tspin", "sft")
    result["arms"][0]["runs"][0] |= {"stopped": "it fell back", "iterations": 1}
    result["arms"][0]["training"][1]["steps"] = [7]
    page = drawn(result, tmp_path)
    assert "Optimiser steps an iteration: tspin 7 to 12, sft 12." in page.text
    assert "only as far as they came: tspin, seed 0, after 1." in page.text
