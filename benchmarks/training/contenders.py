"""The contenders: real trainers, ready to train on a task. Each imports only what it needs."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.training.models import words
from benchmarks.training.task import SEED, Task

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["CONTENDERS", "LEARNING_RATE"]

LEARNING_RATE = 1e-6
LORA_RANK, LORA_ALPHA = 16, 32


def tspin_trainer(task: Task, out: Path, *, history: bool) -> Trainer:
    """This library on triplets, or on pairs (y and y') as at iteration 0.

    Args:
        task: What is trained on what.
        out: A folder for its files.
        history: Whether y0 is in the loss.
    """
    import numpy as np

    from tspin.config import LoraConfig, ModelConfig
    from tspin.forward.passes import choose_passes
    from tspin.models.policy import load_policy, load_tokenizer
    from tspin.tokens.examples import Example, Examples
    from tspin.train.arguments import TSPINConfig
    from tspin.train.trainer import TSPINTrainer

    config = ModelConfig(path=task.folder, dtype=task.dtype)
    lora = LoraConfig(r=LORA_RANK, alpha=LORA_ALPHA) if task.lora else None
    policy = load_policy(
        task.folder, config, device=torch.device(task.device), trainable=True, lora=lora
    )
    rows: list[Example] = []
    for index, triplet in sorted(
        zip(task.order(), task.triplets(), strict=True), key=itemgetter(0)
    ):
        responses = triplet.responses[: 3 if history else 2]
        arrays = tuple(np.array(ids, dtype=np.int32) for ids in responses)
        rows.append(Example(str(index), np.array(triplet.prompt, dtype=np.int32), arrays))
    examples = Examples(rows)
    limits: dict[str, Any] = {} if task.tokens is None else {"tokens_per_device": task.tokens}
    args = TSPINConfig(
        **_arguments(task, out),
        **limits,
        global_batch_size=task.batch,
        beta=0.1 if history else 0.0,
        data_seed=SEED,
    )
    with torch.autocast(args.device.type, torch.bfloat16, args.bf16):
        passes = choose_passes(
            policy,
            examples.extremes(),
            pad_token_id=load_tokenizer(task.folder, config).pad_token_id,
            chunk_size=args.logps_chunk_size,
            device=args.device,
        )
    if not passes.packed:
        raise RuntimeError("tspin fell back to padded rows: this would not measure packing")
    return TSPINTrainer(policy, args, examples, passes=passes)


def trl_trainer(task: Task, out: Path, *, precomputed: bool) -> Trainer:
    """TRL's DPOTrainer on the pairs (y, y'), with a reference model or its log-probabilities.

    Its head scores only completion tokens on a GPU and every position elsewhere; here it gets
    the former on every device.

    Args:
        task: What is trained on what.
        out: A folder for its files.
        precomputed: Whether reference logps are computed before training.
    """
    import peft
    import trl.trainer.utils
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import DPOConfig, DPOTrainer

    trl.trainer.utils._use_triton = lambda device: True
    computed, trained = getattr(torch, task.dtype), torch.float32
    policy = AutoModelForCausalLM.from_pretrained(
        task.folder, dtype=computed if task.lora else trained
    )
    reference = None
    if not (precomputed or task.lora):  # With LoRA, TRL switches the adapter off instead.
        reference = AutoModelForCausalLM.from_pretrained(task.folder, dtype=computed)
    pairs = [
        {
            "prompt": words(triplet.prompt),
            # TRL adds the end token.
            "chosen": f" {words(triplet.responses[0][:-1])} ",
            "rejected": f" {words(triplet.responses[1][:-1])} ",
        }
        for triplet in task.triplets()
    ]
    args = DPOConfig(
        **_arguments(task, out),
        per_device_train_batch_size=task.batch,
        train_sampling_strategy="sequential",
        max_length=None,
        precompute_ref_log_probs=precomputed,
    )
    lora = peft.LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer: Trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(task.folder),
        peft_config=lora if task.lora else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(task: Task, out: Path) -> dict[str, Any]:
    """Training arguments that are the same for everyone."""
    return {
        "output_dir": str(out),
        "num_train_epochs": 1,
        "optim": "rmsprop",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "gradient_checkpointing": False,
        "bf16": task.dtype == "bfloat16",
        "use_cpu": task.device == "cpu",
        "dataloader_pin_memory": task.device == "cuda",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": SEED,
    }


CONTENDERS: dict[str, Callable[[Task, Path], Trainer]] = {
    "tspin": lambda task, out: tspin_trainer(task, out, history=True),
    "tspin_iteration0": lambda task, out: tspin_trainer(task, out, history=False),
    "trl_reference": lambda task, out: trl_trainer(task, out, precomputed=False),
    "trl_precomputed": lambda task, out: trl_trainer(task, out, precomputed=True),
}
"""By the name that the results carry."""
