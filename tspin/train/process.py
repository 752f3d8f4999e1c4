"""One training in one process, from the examples to the model in its folder."""

from __future__ import annotations

import logging
from contextlib import closing, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from tspin.checkpoints.folder import Checkpoints
from tspin.checkpoints.mirror import CheckpointMirror
from tspin.forward.passes import choose_passes
from tspin.machine.hardware import available_memory
from tspin.machine.memory import Hardware, sharded
from tspin.models.configuration import token_limit
from tspin.models.device import dtype_name, node_processes, same_bytes
from tspin.models.folder import find_model
from tspin.models.generation import generation_settings
from tspin.models.policy import (
    Policy,
    load_policy,
    load_tokenizer,
    save_policy,
    saves_adapter_only,
)
from tspin.models.pretrained import without_bars
from tspin.models.shape import model_shape
from tspin.models.sharding import Sharding, full_state_dict, is_sharded, load_sharded
from tspin.models.threads import Work
from tspin.processes.group import (
    errors_only,
    least,
    leave_group_at_exit,
    refuse_other_disks,
    wait_for_all,
)
from tspin.processes.launch import StoppedError, Termination
from tspin.progress.status import at_work
from tspin.records.manifest import Manifest, announce, write_manifest
from tspin.records.samples import selection
from tspin.records.step_clock import kept, phase
from tspin.records.training_log import TRAIN_LOG
from tspin.seeds import derive_seed
from tspin.tokens.ends import name_end_token
from tspin.tokens.examples import Examples, load_examples, roles_of
from tspin.tokens.prompts import PromptTemplate
from tspin.train.arguments import TSPINConfig, trainer_arguments
from tspin.train.guards import Guards, refuse_flat_loss, warn_of_no_right_answer
from tspin.train.job import TrainJob
from tspin.train.log import TrainingNote, TrainingProgress, TrainLog, tracker_callbacks
from tspin.train.reference import needs_reference, reference_key, reference_logps
from tspin.train.saving import CheckpointCallback
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
    with phase("tokenising"):
        examples = _examples(job, template)
    args = trainer_arguments(job)
    leave_group_at_exit()
    sharding = _sharding(job, args)
    args.sharded = sharding is not None
    first = args.should_save
    checkpoints = Checkpoints(job.checkpoints, manifest.asked(), _mirror(job, args))
    work = Work(
        job.config.system,
        manifest,
        checkpoints.begun,
        job.arithmetic,
        inputs={"the policy": job.model, "the examples": job.triplets},
        processes=args.world_size,
    )
    with (
        nullcontext() if first else errors_only(),
        at_work("train", job.iteration, told=first),
        without_bars(),
        checkpoints.held() if first else nullcontext(),
        same_bytes(args.device),
    ):
        if first:
            work.begin()  # Here the other processes read with how many threads they compute.
        with phase("waiting"):
            wait_for_all()
        refuse_other_disks(job.checkpoints)
        with (
            work.computing() as signed,
            kept(job.out, manifest) if first else nullcontext(),
        ):
            with phase("loading"):
                policy = _policy(job, args, sharding)
                # Sharded weights cannot be copied, but be loaded again.
                taught = args.sharded and args.method == "sdft"
                teacher = _policy(job, args, sharding) if taught else None
            policies = policy, teacher
            training = _Training(job, signed, template, args, *policies, examples, checkpoints)
            training.run(reference_key(manifest))
            training.finish()


def _examples(job: TrainJob, template: PromptTemplate) -> Examples:
    settings, prompt = job.config.train, job.config.prompt
    examples = load_examples(
        job.triplets,
        template,
        roles=roles_of(settings, job.iteration),
        max_length=token_limit(job.model, job.config.model, prompt),
        over_long=prompt.over_long,
        selection=selection(settings.method, settings.rft_extractor, settings.rft_cap),
        demonstration=settings.demonstration,
    )
    refuse_flat_loss(examples, settings.method, sft_weight=settings.sft_weight)
    return examples


def _sharding(job: TrainJob, args: TSPINConfig) -> Sharding | None:
    """How the policy is spread over the processes, or None where each has a whole one."""
    system = job.config.system
    if args.world_size == 1 or system.shard == "off":
        return None
    if system.shard == "auto" and _hardware(job, args).shards == 1:
        return None
    log.info("the weights are spread over the training processes")
    return Sharding(args.device, bfloat16=args.bf16, over=system.shard_over, offload=system.offload)


def _hardware(job: TrainJob, args: TSPINConfig) -> Hardware:
    """What the estimate of memory makes of `system.shard: auto`, alike in all processes."""
    processes, gpu = node_processes(), args.device.type == "cuda"
    memory = (
        torch.cuda.get_device_properties(args.device).total_memory
        if gpu
        else available_memory()[0] // processes
    )
    model = job.config.model.model_copy(update={"path": job.model})
    hardware = Hardware(
        gpu=gpu, bfloat16=args.bf16, processes=processes, nodes=args.world_size // processes
    )
    return sharded(model_shape(model, job.config.train.lora), job.config, hardware, least(memory))


def _mirror(job: TrainJob, args: TSPINConfig) -> CheckpointMirror | None:
    if job.mirror is None:
        return None
    return CheckpointMirror(job.mirror, rank=args.process_index, processes=args.world_size)


def _policy(job: TrainJob, args: TSPINConfig, sharding: Sharding | None) -> Policy:
    # As the device has it: what is sharded is read into the host's memory.
    dtype = dtype_name(job.config.model, args.device)
    model = job.config.model.model_copy(update={"dtype": dtype})

    def load(device: torch.device, *, empty: bool = False) -> Policy:
        return load_policy(
            job.model,
            model,
            device=device,
            trainable=True,
            lora=job.config.train.lora,
            seed=derive_seed(job.config.seed, "adapter"),
            empty=empty,
        )

    if sharding is None:
        return load(args.device)
    cpu = torch.device("cpu")
    return load_sharded(lambda empty: load(cpu, empty=empty), sharding, wait_for_all)


@dataclass
class _Training:
    """A training that is set up: what runs it, and what it leaves."""

    job: TrainJob
    manifest: Manifest
    """Of the model, signed with what its bytes depend on; its counts are not known yet."""
    template: PromptTemplate
    args: TSPINConfig
    policy: Policy
    teacher: Policy | None
    examples: Examples
    checkpoints: Checkpoints

    def __post_init__(self) -> None:
        self.guards = Guards(self.job.config.train.guards)
        self.termination = Termination()

    def run(self, reference: str) -> None:
        """Train to the end, from the last checkpoint if there is one.

        Args:
            reference: What cached log-probabilities of the reference policy belong to.

        Raises:
            StoppedError: SIGTERM; the last checkpoint is saved.
        """
        trainer = self._trainer(reference)
        log_rows, progress = TrainLog(self.job.out.with_name(TRAIN_LOG)), TrainingProgress()
        termination = self.termination
        minutes, last = self.job.config.system.checkpoint_minutes, self.checkpoints.last()
        # In this order: the guards' warnings go into the row that is written.
        for callback in (
            self.guards,
            log_rows,
            progress,
            CheckpointCallback(self.checkpoints, termination, minutes),
            TrainingNote(last),
            *tracker_callbacks(self.job.config, self.job.out.parent, first=self.args.should_save),
        ):
            trainer.add_callback(callback)
        # Until the first step (`TSPINTrainer.get_batch_samples`) the trainer only sets itself up.
        with closing(log_rows), closing(progress), termination.noted(), phase("loading"):
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        if termination.stopped_at is not None:
            raise StoppedError(
                f"stopped by SIGTERM after step {termination.stopped_at} of "
                f"{trainer.state.max_steps}; run again to continue from there"
            )
        self.steps = trainer.state.max_steps

    def _trainer(self, reference: str) -> TSPINTrainer:
        args, examples = self.args, self.examples
        with torch.autocast(args.device.type, torch.bfloat16, args.bf16):
            passes = choose_passes(
                self.policy,
                examples.extremes(),
                pad_token_id=self.template.pad_token_id,
                chunk_size=args.logps_chunk_size,
                device=args.device,
            )
        if needs_reference(args.method):
            cache = self.job.checkpoints / "reference.safetensors"
            examples.reference_logps = reference_logps(
                self.policy, examples, cache, key=reference, passes=passes, args=args
            )
        warn_of_no_right_answer(examples, args.method)
        self.guards.check_lengths(examples)
        return TSPINTrainer(self.policy, args, examples, passes=passes, teacher=self.teacher)

    def finish(self) -> None:
        """Put the model in place and drop the checkpoints; every process calls it.

        Raises:
            StoppedError: SIGTERM came when no step was left to stop after; the model is in place.
        """
        weights = None
        if is_sharded(self.policy):
            weights = full_state_dict(self.policy, trained_only=saves_adapter_only(self.policy))
        if self.args.should_save:
            with phase("saving"):
                self._save(weights)
        if self.checkpoints.mirror is not None:
            self.checkpoints.mirror.settle()
        wait_for_all()
        if self.args.should_save:
            self.checkpoints.remove()
        if self.termination.requested:
            raise StoppedError("stopped by SIGTERM when the training was over; run again to go on")

    def _save(self, weights: dict[str, Tensor] | None) -> None:
        """The model, then its manifest: a kill in between makes it count as not made."""
        job, examples, template = self.job, self.examples, self.template
        counts = {
            "triplets": len(examples),
            **({"right_answers": examples.further} if self.args.method == "rft" else {}),
            "over_long": len(examples.dropped),
            "steps": self.steps,
        } | {f"past_{kind}": count for kind, count in self.guards.counts.items()}
        self.policy.config.use_cache = True  # Off in training; the folder is for generation.
        before = find_model(job.model, job.config.model, weights=False)
        tokenizer = load_tokenizer(before, job.config.model)
        template.install(tokenizer)
        announce(job.out)
        save_policy(
            self.policy,
            name_end_token(tokenizer, template.end_token_id),
            job.out,
            generation=generation_settings(before, job.config.model),
            ends=template.stop_ids,
            state_dict=weights,
        )
        dropped = {"over_long": examples.dropped} if examples.dropped else {}
        counted = {"counts": counts, "dropped_ids": dropped}
        write_manifest(job.out, self.manifest.model_copy(update=counted))
