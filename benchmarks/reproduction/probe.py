"""How good a base is at a skill while it is made: greedy answers to items kept for that alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.reproduction.data import items
from benchmarks.reproduction.skills import SKILLS
from tspin.demo.pretrain import TEMPLATE

__all__ = ["PROBED", "probe"]

PROBED = 192
"""Items a skill, of a split of their own."""
_ANSWER = 64
"""Tokens of an answer to a probe item; annotations have fewer."""


@torch.inference_mode()
def probe(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    skill: str,
    *,
    annotated: bool = False,
) -> float:
    """Share of probe items answered right, greedily; or right and in the annotator's form."""
    model.eval()  # type: ignore[no-untyped-call]
    probed = items(skill, "probe", PROBED)
    prompts = [TEMPLATE.format(prompt=item.prompt) for item in probed]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    # transformers' own signature knows no Llama.
    made = cast(Any, model).generate(**batch, do_sample=False, max_new_tokens=_ANSWER)
    texts = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    verify = SKILLS[skill].is_annotated if annotated else SKILLS[skill].is_right
    return sum(verify(item, text) for item, text in zip(probed, texts, strict=True)) / len(probed)
