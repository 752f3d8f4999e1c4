"""Triplet self-play fine-tuning, top to bottom: the loop of arXiv 2601.08198, Algorithm 1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from tspin.config import RunConfig
from tspin.evaluate.step import evaluate
from tspin.files import atomic_file
from tspin.generate.step import generate
from tspin.models.threads import begin_run
from tspin.records.estimate import read_estimates
from tspin.records.manifest import (
    content_hash,
    forget,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.report.page import write_report
from tspin.runs.best import Best
from tspin.runs.clock import Timed, untimed
from tspin.runs.drops import sampled_drops
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.inputs import Data, fetch_data
from tspin.train.step import train
from tspin.triplets import build_triplets

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(
    config: RunConfig, *, kept: Callable[[], None] | None = None, timed: Timed = untimed
) -> RunFolder:
    """Play `config.iterations` iterations of self-play, or continue where a run was killed.

    Every step returns at once where its output is in place and made from the same inputs, so
    this function simply walks through all of them each time.

    Args:
        config: Its `run_dir` is a folder on this machine; data and model may be remote.
        kept: Called after each iteration, when its outputs are in place.
        timed: Called around each step with its name: 'proto', 'generate', 'triplets', 'train',
            'heldout_proto', 'base', 'evaluate'.

    Returns:
        The run folder, with the best model named in best.json and the report written.

    Raises:
        InputError: the folder holds a run of another configuration or of other data.
        TspinError: a step failed; run again to continue.
    """
    folder = RunFolder(Path(config.run_dir))
    data = fetch_data(config)
    with folder.opened(config, data):
        begin_run(config, folder.arithmetic)
        policy = config.model.path
        _evaluate(config, data, folder, policy, BASE, timed)
        best = Best.first(config, folder)
        for iteration in range(config.iterations):
            log.info("iteration %d of %d", iteration, config.iterations)
            policy = _play(config, data, folder, policy, iteration, timed)
            best = best.after(config, folder, iteration)
            best.write(config, folder)
            if kept is not None:
                kept()
            _warn(config, folder, iteration)
            if best.stopped:
                log.warning("stopped: %s", best.stopped)
                break
        write_report(folder.path)
    return folder


def _warn(config: RunConfig, folder: RunFolder, iteration: int) -> None:
    if config.data.heldout is None:
        return
    paths = [folder.iteration(number).metrics for number in range(BASE, iteration + 1)]
    for warning in sampled_drops([*map(read_estimates, paths)], config.train.guards.sampled_drop):
        log.warning("%s", warning)


def _play(
    config: RunConfig, data: Data, folder: RunFolder, policy: str, iteration: int, timed: Timed
) -> str:
    """One iteration: y' from the current policy, triplets, the next policy, its evaluation."""
    outputs = folder.iteration(iteration)
    if config.train.method == "sft":
        examples = data.annotated
    else:
        examples = outputs.triplets
        with timed("proto" if iteration == 0 else "generate"):
            _generate(config, data.annotated, folder, policy, iteration)
        with timed("triplets"):
            build_triplets(
                config.triplets,
                annotated=data.annotated,
                synthetic=outputs.synthetic,
                proto=folder.proto,
                out=examples,
            )
    with timed("train"):
        train(
            config,
            model=policy,
            triplets=examples,
            iteration=iteration,
            out=outputs.model,
            arithmetic=folder.begun(),
        )
    _evaluate(config, data, folder, str(outputs.model), iteration, timed)
    return str(outputs.model)


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


def _evaluate(
    config: RunConfig, data: Data, folder: RunFolder, policy: str, iteration: int, timed: Timed
) -> None:
    heldout = data.heldout
    if heldout is None:
        return
    proto = None
    if config.train.method != "sft":
        proto = folder.heldout_proto
        with timed("heldout_proto"):
            generate(
                config,
                model=config.model.path,
                annotated=heldout,
                out=proto,
                iteration=0,
                arithmetic=folder.begun(),
            )
    with timed("base" if iteration == BASE else "evaluate"):
        evaluate(
            config,
            model=policy,
            annotated=heldout,
            out=folder.iteration(iteration).metrics,
            proto=None if iteration == BASE else proto,
            iteration=iteration,
            arithmetic=folder.begun(),
        )
