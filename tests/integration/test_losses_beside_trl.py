"""A loss beside the one that TRL's own trainer computes on the same batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

from tspin.config import TrainConfig
from tspin.forward.distillation import Divergence
from tspin.forward.passes import ForwardPasses
from tspin.losses import space_loss
from tspin.records.records import AnnotatedRecord, Message
from tspin.records.samples import with_demonstration
from tspin.train.objective import sdft_loss

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


QUESTIONS = [
    ("Name a city.", "A city is Paris.", " So is 46."),
    ("How many apples are 12 and 34?", "12 and 34 are 46.", " apples are 12 and the"),
    ("The answer", "is 46.", " is"),
]


@pytest.mark.parametrize(("divergence", "alpha"), [("forward", 0.0), ("reverse", 1.0)])
@pytest.mark.parametrize("packed", [True, False])
def test_sdft_is_that_of_trl_over_the_whole_vocabulary(
    divergence: Divergence, alpha: float, packed: bool, tmp_path: Path, tiny_model_dir: Path
) -> None:
    policy = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    demonstration = TrainConfig(method="sdft").demonstration
    assert demonstration is not None
    args = SDFTConfig(
        output_dir=str(tmp_path),
        distillation_mode="full_logits",
        distillation_alpha=alpha,
        distillation_is_clip=None,
        teacher_model_kind="base",
        teacher_prompt_template=demonstration.replace("demonstration", "privileged_context"),
        per_device_train_batch_size=4,
        num_generations=2,
        use_cpu=True,
        report_to=[],
        bf16=False,
    )
    rows = [{"prompt": prompt, "privileged_context": shown} for prompt, shown, _ in QUESTIONS]
    trainer = SDFTTrainer(
        model=policy,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    policy.eval()
    completions = [tokenizer(text, add_special_tokens=False)["input_ids"] for *_, text in QUESTIONS]
    told = trainer.teacher_context_builder.select_generation_prompts(
        [prompt for prompt, *_ in QUESTIONS], [shown for _, shown, _ in QUESTIONS]
    )
    ours = [
        with_demonstration(
            AnnotatedRecord(
                id="r", messages=[Message(role="user", content=prompt)], response=shown
            ),
            demonstration,
        )
        for prompt, shown, _ in QUESTIONS
    ]
    assert [record.messages[-1].content for record in ours] == told
    prompts = trainer._tokenize_prompts([prompt for prompt, *_ in QUESTIONS])
    longest = max(map(len, completions))
    width = max(map(len, prompts))
    completion_ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids in completions])
    completion_mask = torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i in completions])
    batch = {
        "prompt_ids": torch.tensor([[0] * (width - len(ids)) + ids for ids in prompts]),
        "prompt_mask": torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in prompts]),
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        **trainer.teacher_context_builder.build(
            [prompt for prompt, *_ in QUESTIONS],
            [shown for _, shown, _ in QUESTIONS],
            completion_ids,
            completion_mask,
        ),
    }
    theirs = trainer.compute_loss(policy, batch)
    passes = ForwardPasses(0, packed=packed, chunk_size=4)
    examples = [
        {
            "id": "r",
            "prompt_ids": prompt,
            "teacher_prompt_ids": taught,
            "annotated_ids": [5, 2],
            "synthetic_ids": response,
            "proto_synthetic_ids": None,
        }
        for prompt, taught, response in zip(
            prompts, trainer._tokenize_prompts(told), completions, strict=True
        )
    ]
    teacher = trainer.teacher_model
    with passes.on(policy), passes.on(teacher):
        _, tokens, sums = passes.distilled(policy, teacher, passes.collate(examples), divergence)
    loss = sdft_loss(sums, tokens[len(examples) :]).loss
    assert loss > 0.01  # The two are really two policies.
    torch.testing.assert_close(loss, theirs.detach(), rtol=1e-4, atol=1e-5)
    theirs_by_name = torch.autograd.grad(theirs, list(policy.parameters()))
    ours_by_name = torch.autograd.grad(loss, list(policy.parameters()))
    for mine, other in zip(ours_by_name, theirs_by_name, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
