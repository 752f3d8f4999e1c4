"""The trainer's arguments: transformers' own, with the papers' setting and the method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments

from tspin.config import Method
from tspin.forward.distillation import Divergence
from tspin.losses import Link
from tspin.models.policy import resolve_device, resolve_dtype
from tspin.processes.launch import launched
from tspin.seeds import derive_seed
from tspin.train.job import TrainJob

__all__ = ["TSPINConfig", "trainer_arguments"]

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_OPTIMIZERS = {"rmsprop": "rmsprop", "adamw": "adamw_torch"}


@dataclass
class TSPINConfig(TrainingArguments):
    """transformers' training arguments, with the papers' setting as defaults, and the method's.

    The papers: RMSProp, no weight decay, no clipping, 10 % of the steps warm-up and then linear
    decay, two epochs (arXiv 2601.08198, section 5; arXiv 2401.01335, appendix B).
    """

    method: Method = "tspin"
    alpha: float = 1.0
    beta: float = 0.0
    """Weight of the historical advantage in this iteration; above 0 the examples must have y0."""
    link: Link = "logistic"
    spin_lambda: float = 0.1
    noise_ratio: float = 1.0
    sdft_divergence: Divergence = "forward"
    length_normalised: bool = False
    sft_weight: float = 0.0
    global_batch_size: int = 64
    """Triplets an optimiser step, over all processes and forward passes."""
    tokens_per_device: int = 8192
    """Tokens a forward pass; as many passes as a step needs. Not per_device_train_batch_size and
    not gradient_accumulation_steps: the trainer's own batch is a whole step."""
    logps_chunk_size: int = 1024
    saturated_gradient: float = 0.01
    sharded: bool = False
    """The policy comes from `tspin.models.sharding`, which has placed it."""
    exchange: Literal["pass", "step"] = "pass"
    """How often processes with a sharded policy add up their gradients: after each forward pass,
    or after the last one of a step, which keeps a whole gradient on each of them until then."""

    optim: str = "rmsprop"
    learning_rate: float = 5e-7
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 0.0
    num_train_epochs: float = 2.0
    logging_steps: float = 1
    # Otherwise a NaN would be replaced by the average of what was there before.
    logging_nan_inf_filter: bool = False
    save_strategy: str = "steps"
    remove_unused_columns: bool = False
    # All parameters take part in every pass, and looking for those that do not costs time.
    ddp_find_unused_parameters: bool | None = False
    disable_tqdm: bool | None = True
    report_to: str | list[str] | None = field(default_factory=list)

    @property
    def place_model_on_device(self) -> bool | None:
        """Transformers' switch; None is its own choice."""
        return False if self.sharded else None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.report_to = []  # transformers puts some in by itself: `tspin.train.log` has all.
        _ = self.device  # Sets up the processes, and counts GPUs.
        self._n_gpu = min(self._n_gpu, 1)  # One process a GPU, never DataParallel.


def trainer_arguments(job: TrainJob, *, sharded: bool = False) -> TSPINConfig:
    """What a run configuration asks of the trainer, in one iteration."""
    settings, system = job.config.train, job.config.system
    device = resolve_device(system)
    seed = job.config.seed
    return TSPINConfig(
        output_dir=str(job.checkpoints),
        method=settings.method,
        alpha=settings.alpha,
        beta=settings.beta_at(job.iteration),
        link=settings.link,
        spin_lambda=settings.at("spin_lambda", job.iteration),
        noise_ratio=settings.noise_ratio,
        sdft_divergence=settings.sdft_divergence,
        length_normalised=settings.length_normalised,
        sft_weight=settings.sft_weight,
        global_batch_size=settings.global_batch_size,
        logps_chunk_size=system.logps_chunk_size,
        saturated_gradient=settings.guards.saturated_gradient,
        optim=_OPTIMIZERS[settings.optimizer],
        learning_rate=settings.at("learning_rate", job.iteration),
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        # transformers reads 1 as one step, and anything below as a share of all.
        warmup_steps=min(settings.warmup_ratio, math.nextafter(1.0, 0.0)),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm or 0.0,
        num_train_epochs=settings.epochs,
        # transformers' seeds have 32 bits.
        seed=derive_seed(seed, "train", job.iteration) % 2**32,
        data_seed=derive_seed(seed, "order", job.iteration),
        tokens_per_device=system.tokens_per_device,
        gradient_checkpointing=system.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        save_steps=system.checkpoint_steps,
        run_name="/".join(job.out.absolute().parts[-3:-1]),  # Trackers show it.
        use_cpu=device.type == "cpu",
        bf16=resolve_dtype(job.config.model, device) == torch.bfloat16,
        ddp_backend="gloo" if launched() and device.type == "cpu" else None,
        dataloader_pin_memory=device.type == "cuda",
        # The next steps are collated beside this one; on a CPU that would take its cores.
        dataloader_num_workers=int(device.type == "cuda"),
        sharded=sharded,
        # An adapter's whole gradient is small, and adding it up once a step is faster.
        exchange="pass" if settings.lora is None else "step",
    )
