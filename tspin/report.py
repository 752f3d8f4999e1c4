"""The report step: one self-contained HTML page about a run, finished or not."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tspin.files import atomic_file
from tspin.history import History, read_history
from tspin.overview import (
    facts,
    headline_metrics,
    measurements,
    metric_names,
    state,
    verdict,
    warnings,
)
from tspin.panels import evaluation_panels, gap_panels, length_panels, training_panels
from tspin.run_folder import RunFolder
from tspin.samples import SHOWN
from tspin.wording import METHODS

__all__ = ["write_report"]


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, whole or not at all; equal folders give equal bytes.

    The page needs no network: the plotting library is inside it. Text that a model wrote is
    escaped, and a content security policy lets no script run but the page's own two.

    Args:
        run_dir: The run folder; the run may be on its way still.
        out: The page; None is report.html in the run folder.

    Returns:
        The path of the page.

    Raises:
        InputError: no such folder, no config.json in it, or a file in it is damaged.
    """
    page = _render(read_history(run_dir, samples=SHOWN))
    path = out or RunFolder(run_dir).report
    with atomic_file(path) as file:
        file.write(page.encode())
    return path


def _render(history: History) -> str:
    environment = Environment(
        loader=PackageLoader("tspin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    method = history.config.train.method
    return environment.get_template("report.html.j2").render(
        history=history,
        method=METHODS[method],
        paired=method != "sft",
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
        **_own_text(),
    )


def _own_text() -> dict[str, Markup]:
    """The style sheet, the two scripts and their hashes: all that goes in unescaped."""
    templates = resources.files("tspin") / "templates"
    css, script = (
        (templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    scripts = {"plotly": get_plotlyjs(), "script": script}
    allowed = " ".join(_policy_source(text) for text in scripts.values())
    unescaped = {"css": css, "script_sources": allowed, **scripts}
    return {name: Markup(text) for name, text in unescaped.items()}  # noqa: S704


def _policy_source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
