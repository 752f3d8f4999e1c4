"""The trainer: transformers' own, with this project's batches, losses and log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from tspin.config import SUPERVISED
from tspin.forward.distillation import frozen, frozen_copy
from tspin.forward.flops import PassFlops
from tspin.forward.passes import ForwardPasses
from tspin.models.device import denormals_flushed, freed_memory_kept
from tspin.models.policy import Policy
from tspin.records.step_clock import begin_work
from tspin.tokens.examples import Examples
from tspin.tokens.steps import PassDataset, StepCollator, StepSampler
from tspin.train.arguments import TSPINConfig
from tspin.train.guards import refuse_not_finite, refuse_unmoved_policy
from tspin.train.metrics import Speed, StepMetrics, sample_metrics
from tspin.train.objective import method_loss
from tspin.train.saving import CheckpointTrainer

__all__ = ["TSPINTrainer"]


class TSPINTrainer(CheckpointTrainer):
    """Trains a policy on triplets.

    What differs from `transformers.Trainer`: a batch of the data loader is a whole optimiser step,
    of as many forward passes as its tokens need; which triplets a step has does not depend on
    processes and forward passes (`StepSampler`); the loss is a mean over the triplets that are
    really in the step (for sft over its tokens), so every step counts right however it was cut;
    the log has the method's metrics and the speed.
    """

    args: TSPINConfig
    train_dataset: Examples
    # The loss below is already divided by what the whole step holds.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        policy: Policy,
        args: TSPINConfig,
        examples: Examples,
        *,
        passes: ForwardPasses,
        teacher: Policy | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """For sdft a sharded policy, which cannot be copied, comes with its `teacher`."""
        _disable_dropout(policy)
        sizes = examples.sizes()
        self.passes = passes
        self._policy = policy
        # Before a checkpoint is loaded: the policy at the start of the iteration.
        self._teacher: Policy | None = None
        if args.method == "sdft":
            self._teacher = frozen(teacher) if teacher is not None else frozen_copy(policy)
        self.sampler = StepSampler(
            sizes.packed,
            global_batch_size=args.global_batch_size,
            cut=lambda share: passes.cut(share, sizes, args.tokens_per_device),
            seed=args.seed if args.data_seed is None else args.data_seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        total = math.ceil(len(self.sampler) * args.num_train_epochs)
        refuse_unmoved_policy(total, args.get_warmup_steps(total))
        collator = StepCollator(
            passes.collate, stand_in=examples.shortest(), per_token=args.method in SUPERVISED
        )
        self._metrics = StepMetrics()
        self._losses: list[tuple[list[str], Tensor]] = []  # Of each pass of a step, with its ids.
        precision = torch.bfloat16 if args.bf16 else torch.float32
        self._speed = Speed(PassFlops.of_model(policy), args.device, precision)
        super().__init__(
            model=policy,
            args=args,
            data_collator=collator,
            train_dataset=examples,
            callbacks=[_Epochs(self.sampler), *(callbacks or [])],
        )
        self.model_accepts_loss_kwargs = True  # For releases without `loss_is_scaled_for_ga`.
        self.remove_callback(PrinterCallback)

    def create_accelerator_and_postprocess(self) -> None:
        """As transformers', but a policy that is sharded already is not wrapped again."""
        super().create_accelerator_and_postprocess()
        # DDP then adds gradients up where they lie, and not in copies of them.
        cast(Any, self.accelerator).ddp_handler.gradient_as_bucket_view = True
        if self.args.sharded:
            prepare = self.accelerator.prepare_model

            def prepare_sharded(model: nn.Module, **_: Any) -> Any:
                return prepare(model, device_placement=False, evaluation_mode=True)

            self.accelerator.prepare_model = prepare_sharded

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `transformers.Trainer.train`, with the policy set up for its forward passes."""
        kept = freed_memory_kept() if self.args.device.type == "cpu" else nullcontext()
        teacher = nullcontext() if self._teacher is None else self.passes.on(self._teacher)
        with denormals_flushed(), kept, self.passes.on(self._policy), teacher:
            return super().train(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps of this process; accelerate must not share them out again."""
        return DataLoader(
            PassDataset(self.train_dataset),
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """This process's part of one step, and the items of that step on all processes.

        Args:
            epoch_iterator: Over the steps of this process.
            num_batches: Steps that are taken together; always 1 here.
            device: For the number of items.
        """
        begin_work()
        self._speed.begin()
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        parts = [batch["items"] for step in samples for batch in step["passes"]]
        items = sum(parts, torch.tensor(0)).to(device)
        return samples, self.accelerator.reduce(items, reduction="sum")

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward for each pass; processes exchange gradients in the last.

        Args:
            model: Wrapped as accelerate wraps it.
            inputs: A step of this process: `passes`, each a batch.
            num_items_in_batch: Of the whole step, on all processes.
        """
        loss = torch.zeros((), device=self.args.device)
        *first, last = inputs["passes"]
        for batch in first:
            self.accelerator.gradient_state._set_sync_gradients(False)
            with self._no_exchange(model):
                loss += self._pass(model, batch, num_items_in_batch)
        self.accelerator.gradient_state._set_sync_gradients(True)
        loss += self._pass(model, last, num_items_in_batch)
        self._refuse_losses()
        return loss

    def _refuse_losses(self) -> None:
        """Stop before the optimiser's step, on a loss of this step that is not finite.

        Once a step and not in each pass: to know a number, a GPU has to have computed it.
        """
        losses = torch.stack([loss for _, loss in self._losses]).tolist()
        for (ids, _), loss in zip(self._losses, losses, strict=True):
            refuse_not_finite("loss", loss, self.state.global_step + 1, ids)
        self._losses.clear()

    @contextmanager
    def _no_exchange(self, model: nn.Module) -> Iterator[None]:
        """Passes inside add to the gradient of this process alone, where that is what is asked."""
        if not isinstance(model, FSDPModule):
            with self.accelerator.no_sync(model):
                yield
            return
        # accelerate knows nothing of this model, and would do nothing.
        model.set_requires_gradient_sync(self.args.exchange == "pass")
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)

    def _pass(self, model: nn.Module, batch: dict[str, Any], items: Tensor | int | None) -> Tensor:
        self._speed.add(batch)
        return super().training_step(model, batch, items).float()

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here: `tspin.train.metrics` does, on a GPU."""
        return 0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This pass's part of the step's mean loss; parts add up over passes and processes.

        Args:
            model: Wrapped as accelerate wraps it.
            inputs: One forward pass's batch.
            return_outputs: Whether the logps are returned as well.
            num_items_in_batch: Of the whole step, on all processes.
        """
        batch, items = inputs, inputs["items"]
        divergences = None
        with self.accelerator.autocast():
            if self._teacher is None:
                logps, tokens = self.passes.logps(model, batch)
            else:
                logps, tokens, divergences = self.passes.distilled(
                    model, self._teacher, batch, self.args.sdft_divergence
                )
        weights: Tensor | None = batch.get("weights")
        size = max(len(batch["ids"]), 1) if weights is None else len(weights)
        logps, tokens = logps.view(-1, size), tokens.view(-1, size)
        reference = batch.get("reference_logps")
        terms = method_loss(self.args, logps, tokens, reference, weights, divergences)
        self._losses.append((batch["ids"], terms.loss.detach()))
        values = sample_metrics(
            terms,
            logps,
            tokens,
            batch.get("identical"),
            saturated_gradient=self.args.saturated_gradient,
        )
        self._metrics.add(values, triplets=len(batch["ids"]), weights=weights)
        total = items if num_items_in_batch is None else num_items_in_batch
        # The step's loss is one mean over its B triplets, however they are cut into passes and
        # shared out over processes. A pass of b triplets gives a mean over its own b, so it counts
        # b / B of the whole: the parts of one process then add up by accumulation, pass after
        # pass. DDP averages gradients over the W processes where a sum is needed, hence the factor
        # W. (Dividing by the number of passes, as transformers does where a loss is not scaled
        # already, would weigh every pass alike: with passes of unlike sizes, the rule here, that
        # is another loss.) For sft the items are tokens instead of triplets.
        loss = terms.loss * (items / total * self.args.world_size)
        return (loss, {"logps": logps}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the step, and stop on a gradient that is not finite."""
        if "loss" in logs:
            step = self.state.global_step
            epoch, at = divmod(step - 1, len(self.sampler))
            indices = self.sampler.step_indices(epoch, at)
            # transformers counts steps, of which the last may be smaller.
            seen = at * self.sampler.global_batch_size + len(indices)
            self.state.epoch = epoch + seen / self.sampler.size
            ids = [self.train_dataset.rows[index].id for index in indices]
            refuse_not_finite("gradient norm", logs["grad_norm"], step, ids)
            logs |= self._metrics.drain(self._sum)
            logs |= self._speed.drain(self._sum, self.args.world_size)
        super().log(logs, start_time)

    def _sum(self, values: Tensor) -> Tensor:
        """Over all processes."""
        total: Tensor = self.accelerator.reduce(values.to(self.args.device), reduction="sum")
        return total


class _Epochs(TrainerCallback):
    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._sampler.set_epoch(state.global_step // len(self._sampler))


def _disable_dropout(policy: Policy) -> None:
    """Turn off the model's own dropout: it would be noise in the difference of two logps.

    A LoRA adapter's dropout stays: it is asked for in the configuration.
    """
    for name, module in policy.named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = 0.0
        for attribute in ("attention_dropout", "dropout", "hidden_dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
