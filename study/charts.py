"""The results as pictures: Mermaid in the tables, and an SVG a claim for docs/study.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from study.arms import CONTROL, SHARE, TSPIN, UNTRAINED
from study.protocol import SETTINGS
from study.results import Results, RunRow
from study.verdicts import CONFIDENCE, HALF, NARROW, PLAIN, SPIN, verdicts
from tspin.evaluate.intervals import mean
from tspin.files import atomic_file
from tspin.records.estimate import Estimate

__all__ = ["FIGURES", "curves", "draw", "mermaid_charts"]

_TITLES = {
    "greedy": "Greedy exactness on validation",
    "sampled": "Sampled exactness on validation",
    "nll_per_token": "Negative log-likelihood of a token on validation, nats",
    "margins/annotated_synthetic": "logp(y) - logp(y') on validation, nats",
    "margins/synthetic_proto_synthetic": "logp(y') - logp(y0) on validation, nats",
    "train/rewards/higher_but_less_likely": "Share with higher reward and lower likelihood",
    "train/rewards/saturated": "Share of saturated samples",
    "response_tokens/sampled": "Tokens of a sampled response on validation",
}
_LABELS = {
    UNTRAINED: "base",
    TSPIN: "T-SPIN, 25 %",
    PLAIN: "T-SPIN without history, 25 %",
    f"tspin_ref@{SHARE}": "T-SPIN with reference, 25 %",
    SPIN: "SPIN, 25 %",
    f"sft@{SHARE}": "SFT, 25 %",
    CONTROL: "SFT, same compute, 25 %",
    "sft": "SFT, 100 %",
}
_COLOURS = dict(
    zip(
        _LABELS,
        ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#7f7f7f"),
        strict=True,
    )
)
"""Okabe and Ito's, which colour-blind readers can tell apart."""
_FORMS = {"known": "form known", "full": "form new"}
"""By protocol, what its bases know of the annotator's form; a panel each."""
_EXACT, _KEPT = "annotated/greedy", "retained/greedy"
_STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    # Equal results give equal bytes: names of elements come from this, and no date is written.
    "svg.hashsalt": "study",
    "svg.fonttype": "none",  # Text stays text: found by a search, and a third of the bytes.
}


def curves(rows: Sequence[RunRow], metric: str) -> dict[str, list[float]]:
    """By method that has the metric: its mean over the runs, iteration by iteration."""
    lines: dict[str, list[float]] = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        runs = [row["iterations"] for row in rows if row["arm"] == arm]
        count = min(map(len, runs))
        if all(metric in run[at] for run in runs for at in range(count)):
            lines[arm] = [fmean(run[at][metric] for run in runs) for at in range(count)]
    return lines


def mermaid_charts(rows: Sequence[RunRow]) -> Iterator[str]:
    """One line a method; Mermaid has no legend, so a sentence below names them in order."""
    for metric, title in _TITLES.items():
        lines = curves(rows, metric)
        if not lines:
            continue
        count = max(map(len, lines.values()))
        chart = ["```mermaid", "xychart-beta", f'    title "{title}"']
        chart.append(f"    x-axis iteration [{', '.join(map(str, range(count)))}]")
        chart += [
            f"    line [{', '.join(f'{value:.4g}' for value in values)}]"
            for values in lines.values()
        ]
        yield "\n".join([*chart, "```"])
        yield f"Lines in this order: {', '.join(lines)}."


def draw(name: str, results: Mapping[str, Results], path: Path) -> None:
    """Write one figure as SVG; equal results give equal bytes with the same version of matplotlib.

    Args:
        name: In `FIGURES`.
        results: By protocol, of `known` and `full`.
        path: The file.
    """
    # Here alone: tables need no matplotlib, which only the extra `study` brings.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3.1), layout="constrained")
        FIGURES[name](figure, results)
        with atomic_file(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _rise(figure: Any, results: Mapping[str, Results]) -> None:
    _exactness(figure, results, (TSPIN, SPIN))


def _history(figure: Any, results: Mapping[str, Results]) -> None:
    _exactness(figure, results, (TSPIN, PLAIN))


def _exactness(figure: Any, results: Mapping[str, Results], arms: Sequence[str]) -> None:
    """Iteration by iteration, on validation."""
    panels = figure.subplots(1, len(_FORMS), sharey=True)
    for panel, (protocol, form) in zip(panels, _FORMS.items(), strict=True):
        lines = curves(results[protocol].runs, "greedy")
        for arm in arms:
            panel.plot(lines[arm], marker="o", color=_COLOURS[arm], label=_LABELS[arm])
        _dress(panel, title=form, x="iteration", y="greedy exactness, validation")
        panel.set_xticks(range(len(lines[arms[0]])))
    panels[0].set_ylim(bottom=-0.02)
    _legend(figure, panels[0])


def _quarter(figure: Any, results: Mapping[str, Results]) -> None:
    """Test, best iteration, a row a method."""
    arms = ("sft", CONTROL, f"sft@{SHARE}", TSPIN)
    panels = figure.subplots(1, len(_FORMS), sharey=True)
    for panel, (protocol, form) in zip(panels, _FORMS.items(), strict=True):
        for height, arm in enumerate(arms):
            estimate = _tested(results[protocol], arm, "best", _EXACT)
            panel.errorbar(estimate.value, height, xerr=_reach(estimate), **_point(arm))
        _dress(panel, title=form, x="greedy exactness, test, best iteration")
        panel.set_yticks(range(len(arms)), [_LABELS[arm] for arm in arms])
        panel.set_ylim(-0.5, len(arms) - 0.5)
        panel.set_xlim(-0.03, 1.1)  # Student's t may reach beyond 1.


def _likelihood(figure: Any, results: Mapping[str, Results]) -> None:
    """T-SPIN's gap at the end of each training, and SPIN's share of rewards that it belies."""
    panels = figure.subplots(1, len(_FORMS) + 1)
    for panel, (protocol, form) in zip(panels, _FORMS.items(), strict=False):
        for arm in (TSPIN, SPIN):
            annotated, synthetic = (
                curves(results[protocol].runs, f"train/logps/{role}")[arm]
                for role in ("annotated", "synthetic")
            )
            gaps = [ours - theirs for ours, theirs in zip(annotated, synthetic, strict=True)]
            panel.plot(gaps, marker="o", color=_COLOURS[arm], label=_LABELS[arm])
        panel.axhline(0, color="black", linewidth=0.8)
        _dress(panel, title=form, x="iteration", y="logp(y) - logp(y'), training, nats")
    share = panels[-1]
    share.axhspan(*HALF, color="black", alpha=0.08, label="about half")
    for (protocol, form), style in zip(_FORMS.items(), ("-", "--"), strict=True):
        line = curves(results[protocol].runs, "train/rewards/higher_but_less_likely")[SPIN]
        share.plot(line, style, marker="o", color=_COLOURS[SPIN], label=form)
    _dress(share, title="SPIN", x="iteration", y="higher reward, lower likelihood")
    share.set_ylim(0, 1)
    share.legend()
    _legend(figure, panels[0])


def _settings(figure: Any, results: Mapping[str, Results]) -> None:
    """Each other alpha or beta minus the papers', with the band that counts as narrow."""
    known = results["known"]
    estimates = verdicts(known.runs, known.settings)[4].figures
    panel = figure.subplots()
    panel.axvspan(-NARROW, NARROW, color="black", alpha=0.08, label="moves little")
    panel.axvline(0, color="black", linewidth=0.8)
    for height, name in enumerate(reversed(SETTINGS)):
        estimate = estimates[name]
        label = "another setting, 95 % interval" if height == 0 else None
        point = {**_point(TSPIN), "label": label}
        panel.errorbar(estimate.value, height, xerr=_reach(estimate), **point)
    panel.set_yticks(range(len(SETTINGS)), [name.replace("-", " ") for name in reversed(SETTINGS)])
    _dress(panel, title=_FORMS["known"], x="greedy exactness minus alpha 1, beta 0.1; validation")
    _legend(figure, panel)


def _control(figure: Any, results: Mapping[str, Results]) -> None:
    """What is learned against what is kept."""
    panels = figure.subplots(1, len(_FORMS), sharey=True)
    for panel, (protocol, form) in zip(panels, _FORMS.items(), strict=True):
        for arm in _LABELS:
            method, moment = (TSPIN, "base") if arm == UNTRAINED else (arm, "best")
            kept, exact = (
                _tested(results[protocol], method, moment, name) for name in (_KEPT, _EXACT)
            )
            reach = {"xerr": _reach(kept), "yerr": _reach(exact)}
            panel.errorbar(kept.value, exact.value, **reach, **_point(arm))
        _dress(panel, title=form, x="other skills kept, test", y="greedy exactness, test")
    _legend(figure, panels[0], columns=4)


FIGURES: Mapping[str, Callable[[Any, Mapping[str, Results]], None]] = {
    "claim-1": _rise,
    "claim-2": _quarter,
    "claim-3": _likelihood,
    "claim-4": _history,
    "claim-5": _settings,
    "control": _control,
}
"""By file name, what draws it."""


def _tested(results: Results, arm: str, moment: str, metric: str) -> Estimate:
    values = [row["test"][moment][metric] for row in results.runs if row["arm"] == arm]
    return mean(values, confidence=CONFIDENCE)


def _reach(estimate: Estimate) -> list[list[float]]:
    """How far the interval goes to either side, as `errorbar` takes it."""
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        return [[0.0], [0.0]]
    return [[estimate.value - low], [high - estimate.value]]


def _point(arm: str) -> dict[str, Any]:
    return {"fmt": "o", "color": _COLOURS[arm], "capsize": 2, "label": _LABELS[arm]}


def _dress(panel: Any, *, title: str, x: str, y: str | None = None) -> None:
    panel.set_title(title)
    panel.set_xlabel(x)
    if y is not None:
        panel.set_ylabel(y)


def _legend(figure: Any, panel: Any, columns: int = 3) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
