"""What a retraining came to, as Markdown for a pull request or a job's page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tspin.errors import GateRefusedError, TspinError
from tspin.files import atomic_file
from tspin.registry import PromotionGate, Record
from tspin.report.markdown import write_summary
from tspin.retrain.request import Retraining
from tspin.runs.history import History, read_history

__all__ = ["Outcome", "write_outcome"]


@dataclass
class Outcome:
    """Filled as the retraining goes on."""

    asked: Retraining
    champion: Record | None = field(default=None)
    """Before it."""
    record: Record | None = None
    """Of the champion after it."""
    comparison: PromotionGate | None = None
    run_dir: Path | None = None
    submitted: str | None = None
    """Id of a Kubeflow run that was left to itself."""
    error: TspinError | None = None

    def verdict(self) -> str:
        """In one sentence."""
        if isinstance(self.error, GateRefusedError):
            return "**Refused**: the champion stays."
        if self.error is not None:
            return "**Failed**: the champion stays."
        if self.submitted is not None:
            return f"**Submitted**: run `{self.submitted}`, whose last step promotes."
        if self.record is None:
            return "Nothing was promoted."
        if self.champion is not None and self.champion.number == self.record.number:
            return f"The champion stays: number {self.record.number}."
        return f"**Promoted**: champion {self.record.number}, model `{self.record.model[:12]}`."


def write_outcome(outcome: Outcome) -> None:
    """Write the verdict, the numbers against the champion's, and the run's own summary."""
    if outcome.asked.summary is None:
        return
    parts = ["# Retraining", outcome.verdict()]
    if outcome.error is not None:
        parts.append(_literal(str(outcome.error)))
    if outcome.comparison is not None:
        parts.append(_literal(outcome.comparison.table()))
    run = outcome.run_dir
    if run is not None and (run / "config.json").is_file():
        write_summary(run, run / "summary.md")
        parts.append((run / "summary.md").read_text(encoding="utf-8").replace("# ", "## ", 1))
        parts.append(_chart(read_history(run, samples=0)))
    with atomic_file(outcome.asked.summary) as file:
        file.write(("\n\n".join(parts) + "\n").encode())


def _chart(history: History) -> str:
    """The gate's metric by iteration, as GitHub and GitLab draw it (Mermaid)."""
    metric = history.config.gate.metric
    points = [p for p in history.played if metric in p.metrics]
    labels = ", ".join(point.label for point in points)
    values = ", ".join(f"{point.metrics[metric].value:.6g}" for point in points)
    return (
        f'```mermaid\nxychart-beta\n    title "{metric}"\n    x-axis [{labels}]\n'
        f"    line [{values}]\n```"
    )


def _literal(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
