"""The trainer: transformers' own, with this project's batches, losses and log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback

from tspin.batches import StepCollator, StepSampler
from tspin.collator import TripletCollator
from tspin.examples import Examples
from tspin.guards import refuse_not_finite, refuse_unmoved_policy
from tspin.logprobs import response_logps
from tspin.methods import method_loss
from tspin.policy import Policy
from tspin.step_metrics import StepMetrics, sample_metrics
from tspin.trainer_config import TSPINConfig

__all__ = ["TSPINConfig", "TSPINTrainer"]


class TSPINTrainer(Trainer):
    """Trains a policy on triplets.

    What differs from `transformers.Trainer`: which triplets a step has does not depend on
    processes and forward passes (`StepSampler`); the loss is a mean over the triplets that are
    really in the step (for sft over its tokens), so accumulated, distributed and last, smaller
    steps count right; the log has the method's metrics.
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
        pad_token_id: int,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        _disable_dropout(policy)
        self.sampler = StepSampler(
            len(examples),
            global_batch_size=args.step_size,
            micro_batch_size=args.per_device_train_batch_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        total = math.ceil(self.sampler.steps * args.num_train_epochs)
        refuse_unmoved_policy(total, args.get_warmup_steps(total))
        collator = StepCollator(
            TripletCollator(pad_token_id),
            stand_in=examples[min(range(len(examples)), key=lambda i: examples.rows[i].length)],
            per_token=args.method == "sft",
        )
        self._metrics = StepMetrics()
        super().__init__(
            model=policy,
            args=args,
            data_collator=collator,
            train_dataset=examples,
            callbacks=[_Epochs(self.sampler), *(callbacks or [])],
        )
        self.model_accepts_loss_kwargs = True  # For releases without `loss_is_scaled_for_ga`.
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process; accelerate must not share them out again."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """This process's batches of one step, and the items of that step on all processes."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        items = sum((batch["items"] for batch in samples), torch.tensor(0)).to(device)
        return samples, self.accelerator.reduce(items, reduction="sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's part of the step's mean loss; parts add up over passes and processes."""
        batch, items = inputs, inputs["items"]
        with self.accelerator.autocast():
            logps, tokens = response_logps(
                model, batch, chunk_size=self.args.logps_chunk_size, head=self.args.head
            )
        size = max(len(batch["ids"]), 1)
        logps, tokens = logps.view(-1, size), tokens.view(-1, size)
        terms = method_loss(self.args, logps, tokens, batch.get("reference_logps"))
        refuse_not_finite("loss", terms.loss.item(), self.state.global_step + 1, batch["ids"])
        values = sample_metrics(
            terms,
            logps,
            tokens,
            _identical(batch, size),
            saturated_gradient=self.args.saturated_gradient,
        )
        self._metrics.add(values, counts=bool(batch["ids"]))
        total = items if num_items_in_batch is None else num_items_in_batch
        # Gradients are averaged over processes, the loss is a sum over them.
        loss = terms.loss * (items / total * self.args.world_size)
        return (loss, {"logps": logps}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the step, and stop on a gradient that is not finite."""
        if "loss" in logs:
            step = self.state.global_step
            epoch, at = divmod(step - 1, self.sampler.steps)
            indices = self.sampler.step_indices(epoch, at)
            # transformers counts forward passes, of which there are more on smaller devices.
            seen = at * self.sampler.global_batch_size + len(indices)
            self.state.epoch = epoch + seen / self.sampler.size
            ids = [self.train_dataset.rows[index].id for index in indices]
            refuse_not_finite("gradient norm", logs["grad_norm"], step, ids)
            logs |= self._metrics.drain(lambda sums: self.accelerator.reduce(sums, reduction="sum"))
        super().log(logs, start_time)


class _Epochs(TrainerCallback):
    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._sampler.set_epoch(state.global_step // self._sampler.steps)


def _identical(batch: dict[str, Any], size: int) -> Tensor | None:
    ids, mask = batch["input_ids"], batch["response_mask"]
    if len(ids) == size:
        return None
    same_ids: Tensor = (ids[:size] == ids[size : 2 * size]).all(dim=1)
    same_mask: Tensor = (mask[:size] == mask[size : 2 * size]).all(dim=1)
    return same_ids & same_mask


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
