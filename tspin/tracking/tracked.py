"""Blocks of work that MLflow is told of. Where nobody asked for that, nothing more is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tspin.config import RunConfig
from tspin.tracking.trackers import handed_run, is_tracked

if TYPE_CHECKING:
    from tspin.tracking.run import FolderRun

__all__ = ["Step", "tracked_comparison", "tracked_run", "tracked_step"]


@contextmanager
def tracked_run(config: RunConfig, within: FolderRun | None = None) -> Iterator[None]:
    """Tell MLflow of a run while the block plays it.

    Args:
        config: Of the run; its `run_dir` is a folder on this machine.
        within: The comparison that the run is part of.
    """
    if not is_tracked(config):
        yield
        return
    from tspin.tracking.run import RunLog
    from tspin.tracking.sender import sending

    with sending(RunLog(config, within)):
        yield


@contextmanager
def tracked_comparison(config: RunConfig, folder: Path) -> Iterator[FolderRun | None]:
    """Tell MLflow of a comparison while the block makes it.

    Args:
        config: What its runs have in common.
        folder: Of the comparison.

    Yields:
        What its runs are nested in; None where nobody asked for that.
    """
    if not is_tracked(config):
        yield None
        return
    from tspin.tracking.comparison import ComparisonLog
    from tspin.tracking.sender import sending

    told = ComparisonLog(config, folder)
    with sending(told):
        yield told.target


@dataclass(frozen=True)
class Step:
    """What one step makes."""

    name: str
    out: Path
    iteration: int | None = None
    config: RunConfig | None = None
    """None of a step that has no configuration: it joins what others made."""
    train_log: Path | None = None
    """Where the training writes it, if not beside `out`."""
    artifact: Path | None = None
    """A page that the run is given as a file."""


@contextmanager
def tracked_step(step: Step) -> Iterator[None]:
    """Tell MLflow of a step while the block does it.

    A step that was handed a run (`tspin.tracking.trackers.handed_run`) tells that one, and gives
    held-out metrics to the run that this one is nested in as well, where the iterations make a
    curve. Another one of a run folder tells the run of the folder, as `tspin run` does.

    Args:
        step: What it makes. Of several processes of a training the first one tells.
    """
    if os.environ.get("RANK", "0") != "0" or not is_tracked(step.config):
        yield
        return
    from tspin.tracking.run import RunLog
    from tspin.tracking.sender import Told, sending
    from tspin.tracking.step import StepLog, is_in_run_folder

    told: Told = StepLog(step)
    if step.config is not None and handed_run() is None and is_in_run_folder(step):
        told = RunLog(step.config, whole=False)
    with sending(told):
        yield
