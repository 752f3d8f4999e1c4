"""A loss beside the one that TRL's own trainer computes on the same batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tspin.losses import space_loss

pytestmark = pytest.mark.integration


def logps(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed over the completions: of those that were chosen, and of those that were not."""
    with torch.no_grad():
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    tokens = logits.log_softmax(-1)[:, :-1].gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    sums = (tokens * batch["completion_mask"][:, 1:]).sum(-1)
    chosen, rejected = sums.chunk(2)
    return chosen, rejected


def test_space_is_bco_without_its_shift(tmp_path: Path, tiny_model_dir: Path) -> None:
    policy, reference = (AutoModelForCausalLM.from_pretrained(tiny_model_dir) for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pairs = [
        {"prompt": "Name a city.", "chosen": " A city is Paris.", "rejected": " So is 46."},
        {"prompt": "The answer", "chosen": " is 46.", "rejected": " is Athens. So is A."},
        {"prompt": "How many", "chosen": " apples are 12", "rejected": " 34 34"},
    ]
    args = DPOConfig(
        output_dir=str(tmp_path),
        loss_type=["bco_pair"],
        beta=1.0,
        per_device_train_batch_size=len(pairs),
        use_cpu=True,
        report_to=[],
        bf16=False,
    )
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(tiny_model_dir),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    policy.eval()
    theirs = trainer.compute_loss(policy, batch)
    ours = space_loss(*logps(policy, batch), *logps(reference, batch), noise_ratio=1.0)
    assert ours.annotated_rewards is not None
    assert ours.annotated_rewards.abs().max() > 0.1  # The two are really two policies.
    torch.testing.assert_close(ours.loss, theirs.detach(), rtol=1e-5, atol=1e-5)
