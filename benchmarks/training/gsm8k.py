"""The lengths of GSM8K's questions and answers, from its published train.jsonl."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.training.lengths import TripletLengths

__all__ = ["GSM8K", "TRIPLETS", "gsm8k_lengths"]

GSM8K = "gsm8k"
"""The profile's name."""
TRIPLETS = 16
"""At least so many in one training."""

_VOCABULARY = 8192


def gsm8k_lengths(path: Path, count: int, seed: int) -> list[TripletLengths]:
    """Questions and answers drawn at random, counted in tokens of a byte-level BPE.

    The BPE of 8,192 tokens is learned from the same file, since no model's tokenizer is at hand
    without a network. GSM8K has one answer a question: y has the length of that answer, y' and y0
    have those of answers to other questions.

    Args:
        path: `train.jsonl` with `question` and `answer`.
        count: How many triplets.
        seed: Of the draw.
    """
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    prompts = [f"### Instruction: {row['question']}\n\n### Response: " for row in rows]
    answers = [row["answer"] for row in rows]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, show_progress=False)
    tokenizer.train_from_iterator([*prompts, *answers], trainer)
    draw = random.Random(seed)
    chosen = draw.sample(range(len(rows)), count)
    others = draw.sample(range(len(rows)), 2 * count)

    def response(index: int) -> int:
        return len(tokenizer.encode(answers[index]).ids) + 1  # The end token.

    return [
        TripletLengths(
            len(tokenizer.encode(prompts[index]).ids),
            (response(index), response(others[2 * i]), response(others[2 * i + 1])),
        )
        for i, index in enumerate(chosen)
    ]
