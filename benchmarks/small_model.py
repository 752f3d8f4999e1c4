"""A small Llama trained on question-answer pairs, so that its answers have realistic lengths.

A random model almost never emits its end token: every answer would be cut off at the limit, and
whatever an engine saves by letting ended rows go could not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tspin.records.records import Message
from tspin.tokens.prompts import PromptTemplate

__all__ = ["small_model"]

_STEPS, _ROWS, _LENGTH = 150, 12, 192


def small_model(folder: Path, pairs: Sequence[tuple[str, str]], *, steps: int = _STEPS) -> Path:
    """A model folder, made once: about 2 million parameters, a minute on two cores."""
    if (folder / "config.json").is_file():
        return folder
    tokenizer = _tokenizer(pairs)
    torch.manual_seed(0)
    model = LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=3,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    _train(model, tokenizer, pairs, steps)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _tokenizer(pairs: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[str, str]],
    steps: int,
) -> None:
    template = PromptTemplate.load(tokenizer, "instruction")
    rows = [
        [*template.prompt_ids([Message(role="user", content=q)]), *template.response_ids(a)]
        for q, a in pairs
    ]
    rows = [row for row in rows if len(row) <= _LENGTH]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        batch = [rows[at % len(rows)] for at in range(step * _ROWS, (step + 1) * _ROWS)]
        longest = max(map(len, batch))
        labels = torch.tensor([row + [-100] * (longest - len(row)) for row in batch])
        ids = torch.where(labels < 0, torch.tensor(tokenizer.pad_token_id), labels)
        loss = model(input_ids=ids, attention_mask=(labels >= 0).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    print(f"the small model's last loss: {loss.item():.2f} nats a token")
