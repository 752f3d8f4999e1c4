"""The train step: from a policy and triplets to the next policy."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import torch

from tspin.checkpoints.folder import Checkpoints
from tspin.checkpoints.mirror import CheckpointMirror
from tspin.config import RunConfig
from tspin.models.quantization import check_quantization
from tspin.processes.launch import check_world, launch, launched, processes_wanted
from tspin.records.arithmetic import Arithmetic
from tspin.records.manifest import Manifest, is_current, read_manifest
from tspin.records.step_clock import timed_step
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate
from tspin.tracking.trackers import check_trackers
from tspin.train.job import TrainJob
from tspin.train.process import train_here

__all__ = ["run_job", "train"]

log = logging.getLogger(__name__)


def train(
    config: RunConfig,
    *,
    model: str,
    triplets: Path,
    iteration: int,
    out: Path,
    checkpoints: Path | None = None,
    arithmetic: Arithmetic | None = None,
) -> Manifest:
    """Train the next policy from a policy and triplets; a killed training continues.

    Beside `out` stand its manifest and `train_log.jsonl`. Returns at once if `out` is current.
    Starts one process a GPU by itself (`system.num_processes`), unless torchrun started this one.

    Args:
        config: Sections model, prompt, train and system.
        model: pi_t: a folder or a Hub name.
        triplets: As `build_triplets` writes them; for method sft annotated records do too.
        iteration: t, from 0; decides beta and the per-iteration settings.
        out: The folder of pi_{t+1}; appears whole or not at all.
        checkpoints: Where to keep checkpoints; default `NAME.checkpoints` beside `out`, deleted
            when the model is in place. With `system.checkpoints` a place of its own below that.
        arithmetic: What the run was begun with; None outside of a run (`tspin.models.threads`).

    Returns:
        The model's manifest.

    Raises:
        InputError: the inputs are broken or do not belong together, the loss cannot decrease, or
            a tracker is not installed.
        TspinError: the loss or its gradient is not finite, another process trains into the same
            folder, or a training process failed.
        StoppedError: SIGTERM; the last checkpoint is saved. Exit code 143.
    """
    with timed_step("train") as clock:
        job = TrainJob(
            config=config,
            model=model,
            triplets=triplets,
            iteration=iteration,
            out=out,
            checkpoints=checkpoints or out.with_name(f"{out.name}.checkpoints"),
            arithmetic=arithmetic,
            began=clock.began,
        )
        return _train(job, keep_apart=checkpoints is None)


def _train(job: TrainJob, *, keep_apart: bool) -> Manifest:
    system = job.config.system
    check_trackers(job.config)
    if launched():
        check_world(system)
    processes = 1 if launched() else processes_wanted(system)
    template = load_template(job.model, job.config.model, job.config.prompt)
    wanted = job.wanted(template)
    if keep_apart and system.checkpoints is not None:
        job = job.kept_in(system.checkpoints, wanted)
    if is_current(job.out, wanted):
        if not launched():
            mirror = None if job.mirror is None else CheckpointMirror(job.mirror)
            Checkpoints(job.checkpoints, wanted.asked(), mirror).remove_finished()
        return read_manifest(job.out) or wanted
    check_quantization(job.config.model)
    if processes == 1:
        return _fitted(job, wanted, template)
    log.info("training with %d processes", processes)
    launch(processes, "tspin.train.worker", job.model_dump_json())
    return read_manifest(job.out) or wanted


def run_job(job: TrainJob) -> Manifest:
    """Train in this process, alone or as one of several that a launcher has started."""
    with timed_step("train", began=job.began):
        if launched():
            check_world(job.config.system)
        template = load_template(job.model, job.config.model, job.config.prompt)
        manifest = job.wanted(template)
        if is_current(job.out, manifest):
            return read_manifest(job.out) or manifest
        return _fitted(job, manifest, template)


def _fitted(job: TrainJob, manifest: Manifest, template: PromptTemplate) -> Manifest:
    try:
        train_here(job, manifest, template)
    finally:
        # Trainer and callbacks refer to each other; the next step needs their memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return read_manifest(job.out) or manifest
