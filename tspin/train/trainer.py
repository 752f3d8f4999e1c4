"""The trainer: transformers' own, with this project's batches, losses and log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback

from tspin.errors import InputError
from tspin.forward.flops import PassFlops
from tspin.forward.passes import ForwardPasses
from tspin.losses import (
    LossTerms,
    length_normalised,
    sft_loss,
    spin_loss,
    tspin_loss,
    tspin_ref_loss,
)
from tspin.models.device import denormals_flushed
from tspin.models.policy import Policy
from tspin.tokens.examples import Examples
from tspin.tokens.steps import PassDataset, StepCollator, StepSampler
from tspin.train.arguments import TSPINConfig
from tspin.train.guards import refuse_not_finite, refuse_unmoved_policy
from tspin.train.metrics import Speed, StepMetrics, sample_metrics

__all__ = ["TSPINConfig", "TSPINTrainer", "method_loss"]


def method_loss(
    args: TSPINConfig, logps: Tensor, tokens: Tensor, reference: Tensor | None
) -> LossTerms:
    """The loss of the configured method on one batch.

    Args:
        args: Names the method and its coefficients.
        logps: (k, B) summed response logps in nats: y, y', y0 as far as the method reads them.
        tokens: (k, B) numbers of response tokens.
        reference: (k, B) the same logps under the reference policy, where the method has one.
    """
    if args.method == "sft":
        return sft_loss(logps[0], tokens[0])
    terms = _preference_loss(args, logps, tokens, reference)
    if args.sft_weight == 0:
        return terms
    # Per token and triplet, as in eq. (1) of arXiv 2404.19733.
    likelihood = length_normalised(logps[0], tokens[0]).mean()
    return replace(terms, loss=terms.loss - args.sft_weight * likelihood)


def _preference_loss(
    args: TSPINConfig, logps: Tensor, tokens: Tensor, reference: Tensor | None
) -> LossTerms:
    if args.length_normalised:
        logps = length_normalised(logps, tokens)
        reference = None if reference is None else length_normalised(reference, tokens)
    annotated, synthetic, proto = (*logps, None)[:3]
    if args.method in ("tspin", "tspin_no_history"):
        return tspin_loss(
            annotated, synthetic, proto, alpha=args.alpha, beta=args.beta, link=args.link
        )
    if reference is None:
        raise InputError(f"method '{args.method}' needs reference_logps in the examples")
    if args.method == "spin":
        return spin_loss(
            annotated, synthetic, *reference, spin_lambda=args.spin_lambda, link=args.link
        )
    references = (*reference, None)[:3]
    return tspin_ref_loss(
        annotated, synthetic, proto, *references, alpha=args.alpha, beta=args.beta, link=args.link
    )


class TSPINTrainer(Trainer):
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
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        _disable_dropout(policy)
        sizes = examples.sizes()
        self.passes = passes
        self._policy = policy
        self.sampler = StepSampler(
            [packed for packed, *_ in sizes],
            global_batch_size=args.global_batch_size,
            cut=lambda share: passes.cut(share, sizes, args.tokens_per_device),
            seed=args.seed if args.data_seed is None else args.data_seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        total = math.ceil(len(self.sampler) * args.num_train_epochs)
        refuse_unmoved_policy(total, args.get_warmup_steps(total))
        collator = StepCollator(
            passes.collate, stand_in=examples.shortest(), per_token=args.method == "sft"
        )
        self._metrics = StepMetrics()
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

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As `transformers.Trainer.train`, with the policy set up for its forward passes."""
        with denormals_flushed(), self.passes.on(self._policy):
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
            with self.accelerator.no_sync(model):
                loss += self._pass(model, batch, num_items_in_batch)
        self.accelerator.gradient_state._set_sync_gradients(True)
        return loss + self._pass(model, last, num_items_in_batch)

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
        with self.accelerator.autocast():
            logps, tokens = self.passes.logps(model, batch)
        size = max(len(batch["ids"]), 1)
        logps, tokens = logps.view(-1, size), tokens.view(-1, size)
        terms = method_loss(self.args, logps, tokens, batch.get("reference_logps"))
        refuse_not_finite("loss", terms.loss.item(), self.state.global_step + 1, batch["ids"])
        values = sample_metrics(
            terms,
            logps,
            tokens,
            batch.get("identical"),
            saturated_gradient=self.args.saturated_gradient,
        )
        self._metrics.add(values, counts=bool(batch["ids"]))
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
