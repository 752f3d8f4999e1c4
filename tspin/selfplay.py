"""Triplet self-play fine-tuning, top to bottom: the loop of arXiv 2601.08198, Algorithm 1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tspin.config import RunConfig
from tspin.evaluations.queue import evaluations
from tspin.files import atomic_file
from tspin.generate.step import generate
from tspin.models.threads import begin_run
from tspin.progress.status import at_work, named_run
from tspin.records.manifest import (
    content_hash,
    forget,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.report.page import write_report
from tspin.runs.clock import Timed, untimed
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.inputs import Data, fetch_data
from tspin.tracking.tracked import tracked_run
from tspin.train.step import train
from tspin.triplets import build_triplets

if TYPE_CHECKING:
    from tspin.tracking.run import FolderRun

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(
    config: RunConfig,
    *,
    kept: Callable[[], None] | None = None,
    timed: Timed = untimed,
    within: FolderRun | None = None,
) -> RunFolder:
    """Play `config.iterations` iterations of self-play, or continue where a run was killed.

    Every step returns at once where its output is made already, so this walks through all of them
    each time. Evaluations may be beside the loop (`system.evaluate_beside`).

    Args:
        config: Its `run_dir` is a folder on this machine; data and model may be remote.
        kept: Called after each iteration that is evaluated; beside the loop where evaluations are.
        timed: Called around each step with its name: 'proto', 'generate', 'triplets', 'train',
            and where evaluations are not beside the loop 'heldout_proto', 'base', 'evaluate'.
        within: The comparison in MLflow that the run is part of.

    Returns:
        The run folder, with the best model named in best.json and the report written.

    Raises:
        InputError: the folder holds a run of another configuration or of other data.
        TspinError: a step failed, or SIGTERM came (`StoppedError`); run again to continue.
    """
    folder, data = RunFolder(Path(config.run_dir)), fetch_data(config)
    with (
        named_run(config.run_dir),
        folder.opened(config, data),
        tracked_run(config, within),
        evaluations(config, data, folder, kept=kept, timed=timed) as evaluated,
    ):
        begin_run(config, folder.arithmetic)
        policy = config.model.path
        evaluated.begin(policy, BASE)
        for iteration in range(config.iterations):
            with at_work(None, iteration):
                if evaluated.stop(before="generate"):
                    break
                log.info("iteration %d of %d", iteration, config.iterations)
                examples = _examples(config, data, folder, policy, iteration, timed)
                if evaluated.stop(before="train"):
                    break
                policy = _train(config, folder, policy, examples, iteration, timed)
                evaluated.begin(policy, iteration)
        evaluated.finish()
        write_report(folder.path)
    return folder


def _examples(
    config: RunConfig, data: Data, folder: RunFolder, policy: str, iteration: int, timed: Timed
) -> Path:
    """What an iteration trains on: y' from the current policy, joined with y and y0."""
    if config.train.method == "sft":
        return data.annotated
    outputs = folder.iteration(iteration)
    with timed("proto" if iteration == 0 else "generate"):
        _generate(config, data.annotated, folder, policy, iteration)
    with timed("triplets"):
        build_triplets(
            config.triplets,
            annotated=data.annotated,
            synthetic=outputs.synthetic,
            proto=folder.proto,
            out=outputs.triplets,
            earlier=[
                folder.iteration(number).synthetic
                for number in config.train.history_at(iteration)[1:]
            ],
        )
    return outputs.triplets


def _train(
    config: RunConfig, folder: RunFolder, policy: str, examples: Path, iteration: int, timed: Timed
) -> str:
    """The next policy."""
    out = folder.iteration(iteration).model
    with timed("train"):
        train(
            config,
            model=policy,
            triplets=examples,
            iteration=iteration,
            out=out,
            arithmetic=folder.begun(),
        )
    return str(out)


def _generate(
    config: RunConfig, annotated: Path, folder: RunFolder, policy: str, iteration: int
) -> None:
    # The initial policy plays once: at iteration 0 its responses are y0 and y' alike.
    synthetic = folder.iteration(iteration).synthetic
    before = folder.iteration(iteration - 1).synthetic if iteration else None
    generate(
        config,
        model=policy,
        annotated=annotated,
        out=synthetic if iteration else folder.proto,
        iteration=iteration,
        arithmetic=folder.begun(),
        drafts=before,
    )
    if iteration == 0:
        _copy_output(folder.proto, synthetic)


def _copy_output(source: Path, target: Path) -> None:
    manifest = read_manifest(source)
    if manifest is None:
        return
    # Not only made from the same things, but the same: an older copy may not say all of them.
    if is_current(target, manifest) and content_hash(target) == manifest.sha256:
        return
    forget(target)
    with atomic_file(target) as file:
        file.write(source.read_bytes())
    write_manifest(target, manifest)
