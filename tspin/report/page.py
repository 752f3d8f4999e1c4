"""The report step: one self-contained HTML page about a run, finished or not."""

from __future__ import annotations

from pathlib import Path

from tspin.config import SUPERVISED
from tspin.files import atomic_file
from tspin.outputs import check_output, report_page
from tspin.report.html import render
from tspin.report.overview import (
    facts,
    headline_metrics,
    measurements,
    metric_names,
    state,
    verdict,
    warnings,
)
from tspin.report.panels import evaluation_panels, gap_panels, length_panels, training_panels
from tspin.report.time import time_panels
from tspin.report.wording import METHODS
from tspin.runs.folder import RunFolder
from tspin.runs.history import History, read_history
from tspin.runs.samples import SHOWN

__all__ = ["write_report"]


def write_report(run_dir: Path, out: Path | None = None, *, begun: Path | None = None) -> Path:
    """Write the report of a run folder, whole or not at all; equal folders give equal bytes.

    The page needs no network: the plotting library is inside it. Text that a model wrote is
    escaped, and a content security policy lets no script run but the page's own two.

    Args:
        run_dir: The run folder; the run may be on its way still.
        out: The page; None is report.html in the run folder.
        begun: Responses of an iteration that the gate let go no further, where they are not in the
            folder.

    Returns:
        The path of the page.

    Raises:
        InputError: no such folder, no config.json in it, or a file in it is damaged; or another
            file stands where the page goes.
    """
    if out is not None:
        check_output(out, report_page)
    page = _render(read_history(run_dir, samples=SHOWN, begun=begun))
    path = out or RunFolder(run_dir).report
    with atomic_file(path) as file:
        file.write(page.encode())
    return path


def _render(history: History) -> str:
    method = history.config.train.method
    return render(
        "report.html.j2",
        history=history,
        method=METHODS[method],
        paired=method not in SUPERVISED,
        verdict=verdict(history),
        state=state(history),
        facts=facts(history),
        warnings=warnings(history),
        confidence=f"{history.config.evaluate.confidence:.0%}",
        summary=measurements(history, headline_metrics(history)),
        all_measurements=measurements(history, metric_names(history)),
        evaluation=evaluation_panels(history),
        training=list(training_panels(history)),
        gaps=list(gap_panels(history)),
        lengths=list(length_panels(history)),
        time=list(time_panels(history)),
    )
