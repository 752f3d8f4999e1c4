"""The study's committed results, and the tables, figures and verdicts that follow from them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from study.__main__ import FIGURE_FOLDER, RESULTS, app
from study.arms import ARMS, TSPIN, UNTRAINED
from study.charts import FIGURES, draw
from study.frontier import AXES, recommended, standings
from study.results import Results
from study.tables import as_markdown
from study.verdicts import coupling, verdicts
from tests.study.study_runs import make_runs
from tspin.errors import InputError

pytestmark = pytest.mark.study

COMMITTED = ("full", "known", "field")
CLAIMED = ("full", "known")
"""Those that judge the paper's claims."""
MOST_BYTES = 500_000
"""Of all files together: they are in every clone. A base of `field` takes 70 kB."""
PAGE, MOST_LINES = FIGURE_FOLDER.with_suffix(".md"), 150
DETAILS = RESULTS.with_name("README.md")


@pytest.mark.parametrize("protocol", COMMITTED)
def test_committed_tables_follow_from_the_committed_results(protocol: str) -> None:
    results = Results.read(RESULTS / f"{protocol}.parquet")
    assert results.protocol["name"] == protocol
    assert as_markdown(results).encode() == (RESULTS / f"{protocol}.md").read_bytes()


def test_results_are_small_and_nothing_else_lies_beside_them() -> None:
    names = {path.name for path in RESULTS.iterdir()}
    assert names == {f"{name}.{kind}" for name in COMMITTED for kind in ("parquet", "md")}
    sizes = [(RESULTS / f"{name}.parquet").stat().st_size for name in COMMITTED]
    assert sum(sizes) <= MOST_BYTES


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    runs = make_runs()
    where = {"skill": "sums", "base": "weak", "arm": "sft", "seed": 1}
    search = [{**where, "part": "search", "flops": 2.0, "best": {"a/b": 0.1}, "last": {"a/b": 1}}]
    confirmed = [{**where, "control": True, "test": {"last": {"annotated/greedy": 1 / 3}}}]
    settings = [{"skill": "sums", "base": "weak", "setting": "beta-1.0", "seed": 1, "greedy": 0.5}]
    signs = [{**where, "part": "final", "iteration": 0, "worse": False, "length_drift": None}]
    results = Results({"name": "pilot"}, runs, settings, search, confirmed, (), signs)
    results.write(tmp_path / "pilot.parquet")
    again = Results.read(tmp_path / "pilot.parquet")
    assert again.protocol == {"name": "pilot"}
    assert again.runs == runs
    assert (again.settings, again.search, again.confirmed) == (settings, search, confirmed)
    assert again.confirmed[0]["control"] is True
    assert again.tempered == []
    assert again.signs == [{**where, "part": "final", "iteration": 0, "worse": False}]
    before = (tmp_path / "pilot.parquet").read_bytes()
    again.write(tmp_path / "pilot.parquet")
    assert (tmp_path / "pilot.parquet").read_bytes() == before
    Results({}).write(tmp_path / "nothing.parquet")
    assert Results.read(tmp_path / "nothing.parquet") == Results({}, [], [], [], [], [], [])


def test_the_command_writes_the_tables_beside_the_results(tmp_path: Path) -> None:
    Results({"name": "pilot"}, make_runs()).write(tmp_path / "pilot.parquet")
    arguments = ["tables", "--protocol", "pilot", "--results", str(tmp_path)]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0
    assert "15 runs: 3 combinations" in (tmp_path / "pilot.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out"),
        (["--out", "build/x", "--protocol", "large"], "full, known, field, pilot"),
        (["--out", "build/x", "--until", "never"], "prepare, select"),
        (["--out", "build/x", "--only", "sums/huge"], "sums/weak"),
        (["--out", "build/x", "--seed", "7"], "0, 1, 2"),
        (["tables", "--protocol", "large"], "full, known, field, pilot"),
        (["tables", "--protocol", "pilot"], "pilot.parquet"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_would_be_right(
    arguments: list[str], message: str
) -> None:
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 2
    words = " ".join(outcome.output.replace("│", " ").split())
    assert message in words


@pytest.mark.parametrize("content", [None, b"PAR1", "other columns"])
def test_what_holds_no_results_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "full.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match=r"full\.parquet: "):
        Results.read(path)


@pytest.fixture(scope="module")
def by_protocol() -> dict[str, Results]:
    return {name: Results.read(RESULTS / f"{name}.parquet") for name in COMMITTED}


@pytest.mark.parametrize("name", FIGURES)
def test_committed_figures_follow_from_the_committed_results(
    name: str, by_protocol: dict[str, Results], tmp_path: Path
) -> None:
    draw(name, by_protocol, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_bytes() == (FIGURE_FOLDER / f"{name}.svg").read_bytes()


def test_the_page_shows_every_figure_and_every_verdict(by_protocol: dict[str, Results]) -> None:
    assert len(PAGE.read_text().splitlines()) <= MOST_LINES
    page = " ".join(PAGE.read_text().split())
    assert {path.stem for path in FIGURE_FOLDER.iterdir()} == {*FIGURES}
    for name in FIGURES:
        assert page.count(f"](study/{name}.svg)") == 1
    for protocol in CLAIMED:
        results = by_protocol[protocol]
        for verdict in verdicts(results.runs, results.settings):
            for figure in verdict.figures.values():
                if not verdict.claim.startswith("3."):  # The page rounds its nats.
                    assert f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" in page


@pytest.mark.parametrize(("protocol", "form"), [("known", "known"), ("full", "new")])
@pytest.mark.parametrize("arm", [UNTRAINED, *ARMS])
def test_the_table_of_the_page_follows_from_the_results(
    by_protocol: dict[str, Results], protocol: str, form: str, arm: str
) -> None:
    results = by_protocol[protocol]
    method, moment = (TSPIN, "base") if arm == UNTRAINED else (arm, "last")
    policies = [row["test"][moment] for row in results.runs if row["arm"] == method]
    greedy, sampled, nll, kept, kept_nll = (
        fmean(policy[name] for policy in policies)
        for name in (
            "annotated/greedy",
            "annotated/sampled",
            "nll_per_token",
            "retained/greedy",
            "retained/nll_per_token",
        )
    )
    tempered = [row["fitted"] for row in results.tempered if row["arm"] == arm]
    cells = [
        form,
        "the base" if arm == UNTRAINED else f"`{arm}`",
        f"{greedy:.3f}",
        f"{sampled:.3f}",
        f"{fmean(tempered):.3f}" if tempered else "",
        f"{nll:.2f}",
        f"{kept:.3f}",
        f"{kept_nll:.2f}",
    ]
    line = f"| {' | '.join(cells)} |".replace("|  |", "| |")
    assert line in PAGE.read_text().splitlines()


def test_the_details_say_how_the_later_methods_stand(by_protocol: dict[str, Results]) -> None:
    results = by_protocol["field"]
    lines = DETAILS.read_text().splitlines()
    those = standings(results.runs)
    assert {one.skill for one in those} == {"sums", "arithmetic", "extraction", "all"}
    assert recommended(those) == []
    for one in [standing for standing in those if standing.skill != "all"]:
        mine = [row for row in results.runs if (row["skill"], row["arm"]) == (one.skill, one.arm)]
        last = [row["test"]["last"] for row in mine]
        greedy, sampled, kept = (
            fmean(policy[name] for policy in last)
            for name in ("annotated/greedy", "annotated/sampled", "retained/greedy")
        )
        gains = [one.gains["last", axis] for axis in AXES]
        assert any(gain.low is None for gain in gains) is (one.word == "not run")
        cells = [f"`{one.arm}`", *(f"{value:.3f}" for value in (greedy, sampled, kept))]
        cells += [f"{gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})" for gain in gains]
        assert f"| {' | '.join(cells)} |" in lines
    page = " ".join(DETAILS.read_text().split())
    for difference in coupling(results.runs).values():
        assert difference is not None
        assert f"{difference.value:.3f} ({difference.low:.3f} to {difference.high:.3f})" in page


def test_the_details_say_how_they_stand_on_each_base(by_protocol: dict[str, Results]) -> None:
    runs = by_protocol["field"].runs
    lines = DETAILS.read_text().splitlines()
    bases = list(dict.fromkeys(row["base"] for row in runs))
    assert f"| skill | method | {' | '.join(f'`{base}`' for base in bases)} |" in lines
    gains = {
        (one.skill, base, one.arm): one.gains["last", "annotated/greedy"].value
        for base in bases
        for one in standings([row for row in runs if row["base"] == base])
    }
    for skill, arm in dict.fromkeys((skill, arm) for skill, _, arm in gains if skill != "all"):
        cells = [f"{gains[skill, base, arm]:.3f}" for base in bases]
        assert f"| {skill} | `{arm}` | {' | '.join(cells)} |" in lines
