"""One training in one process, from the examples to the model in its folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

import torch
import torch.distributed
from transformers import TrainerCallback

from tspin.forward.passes import choose_passes
from tspin.models.configuration import token_limit
from tspin.models.folder import find_model
from tspin.models.generation import generation_settings
from tspin.models.policy import (
    load_policy,
    load_tokenizer,
    save_policy,
)
from tspin.models.pretrained import without_bars
from tspin.models.threads import Work
from tspin.records.manifest import Manifest, announce, write_manifest
from tspin.records.training_log import TRAIN_LOG
from tspin.seeds import derive_seed
from tspin.tokens.ends import name_end_token
from tspin.tokens.examples import Examples, load_examples, roles_of
from tspin.tokens.prompts import PromptTemplate
from tspin.train.arguments import TSPINConfig, trainer_arguments
from tspin.train.checkpoints import CheckpointCallback, CheckpointMirror, Checkpoints
from tspin.train.guards import Guards, refuse_flat_loss
from tspin.train.job import TrainJob
from tspin.train.launch import StoppedError, Termination, leave_group_at_exit
from tspin.train.log import DVCLIVE, TrainingProgress, TrainLog, dvclive_callback
from tspin.train.reference import needs_reference, reference_key, reference_logps
from tspin.train.trainer import TSPINTrainer

__all__ = ["train_here"]

log = logging.getLogger(__name__)


def train_here(job: TrainJob, manifest: Manifest, template: PromptTemplate) -> None:
    """Train as `tspin.train.step.train` says, and put the model and its manifest in place.

    Args:
        job: What to train.
        manifest: The model's manifest but for its counts; also what checkpoints belong to.
        template: Of the policy's tokenizer.
    """
    settings = job.config.train
    roles = roles_of(settings.method, settings.beta_at(job.iteration))
    prompt = job.config.prompt
    examples = load_examples(
        job.triplets,
        template,
        roles=roles,
        max_length=token_limit(job.model, job.config.model, prompt),
        over_long=prompt.over_long,
    )
    refuse_flat_loss(examples, settings.method, sft_weight=settings.sft_weight)
    args = trainer_arguments(job)
    leave_group_at_exit()
    mirror = None if job.mirror is None else CheckpointMirror(job.mirror)
    checkpoints = Checkpoints(job.checkpoints, manifest.asked(), mirror)
    work = Work(
        job.config.system,
        manifest,
        checkpoints.begun,
        job.arithmetic,
        inputs={"the policy": job.model, "the examples": job.triplets},
        processes=args.world_size,
    )
    with (
        nullcontext() if args.should_save else _errors_only(),
        without_bars(),
        checkpoints.held() if args.should_save else nullcontext(),
        _same_bytes(args.device),
    ):
        if args.should_save:
            work.begin()  # Here the other processes read with how many threads they compute.
        _wait_for_all()
        with work.computing() as signed:
            guards = Guards(settings.guards)
            trainer = _trained(job, manifest, template, args, examples, checkpoints, guards)
            if args.should_save:
                _finish(job, signed, template, trainer, examples, guards)
            _wait_for_all()
            if args.should_save:
                checkpoints.remove()


def _trained(
    job: TrainJob,
    manifest: Manifest,
    template: PromptTemplate,
    args: TSPINConfig,
    examples: Examples,
    checkpoints: Checkpoints,
    guards: Guards,
) -> TSPINTrainer:
    policy = load_policy(
        job.model,
        job.config.model,
        device=args.device,
        trainable=True,
        lora=job.config.train.lora,
        seed=derive_seed(job.config.seed, "adapter"),
    )
    with torch.autocast(args.device.type, torch.bfloat16, args.bf16):
        passes = choose_passes(
            policy,
            examples.extremes(),
            pad_token_id=template.pad_token_id,
            chunk_size=args.logps_chunk_size,
            device=args.device,
        )
    if needs_reference(args.method):
        cache, key = job.checkpoints / "reference.safetensors", reference_key(manifest)
        examples.reference_logps = reference_logps(
            policy, examples, cache, key=key, passes=passes, args=args
        )
    guards.check_lengths(examples)
    termination, progress = Termination(), TrainingProgress()
    train_log = TrainLog(job.out.with_name(TRAIN_LOG))
    # In this order: the guards' warnings go into the row that is written.
    marks = CheckpointCallback(checkpoints, termination, job.config.system.checkpoint_minutes)
    callbacks = [guards, train_log, progress, marks]
    callbacks.extend(_trackers(job, args))
    trainer = TSPINTrainer(policy, args, examples, passes=passes, callbacks=callbacks)
    last = checkpoints.last()
    with closing(train_log), closing(progress), termination.noted():
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if termination.stopped_at is not None:
        raise StoppedError(
            f"stopped by SIGTERM after step {termination.stopped_at} of "
            f"{trainer.state.max_steps}; run again to continue from there"
        )
    return trainer


def _trackers(job: TrainJob, args: TSPINConfig) -> list[TrainerCallback]:
    """Those that transformers does not make by itself."""
    if DVCLIVE in job.config.system.report_to and args.should_save:
        return [dvclive_callback(job.out.parent)]
    return []


def _finish(
    job: TrainJob,
    manifest: Manifest,
    template: PromptTemplate,
    trainer: TSPINTrainer,
    examples: Examples,
    guards: Guards,
) -> None:
    """Put the model in place, then its manifest: a kill in between makes it count as not made."""
    counts = {
        "triplets": len(examples),
        "over_long": len(examples.dropped),
        "steps": trainer.state.max_steps,
    } | {f"past_{kind}": count for kind, count in guards.counts.items()}
    policy = trainer.accelerator.unwrap_model(trainer.model)
    policy.config.use_cache = True  # It was off for training; the folder is for generation.
    before = find_model(job.model, job.config.model, weights=False)
    tokenizer = load_tokenizer(before, job.config.model)
    template.install(tokenizer)
    announce(job.out)
    save_policy(
        policy,
        name_end_token(tokenizer, template.end_token_id),
        job.out,
        generation=generation_settings(before, job.config.model),
        ends=template.stop_ids,
    )
    dropped = {"over_long": examples.dropped} if examples.dropped else {}
    write_manifest(job.out, manifest.model_copy(update={"counts": counts, "dropped_ids": dropped}))


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


@contextmanager
def _errors_only() -> Iterator[None]:
    """In a process that is not the first: that one says everything for all of them."""
    ours = logging.getLogger("tspin")
    level = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(level)


@contextmanager
def _same_bytes(device: torch.device) -> Iterator[None]:
    """Choose GPU kernels that add in a fixed order: a resumed training must not differ."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
