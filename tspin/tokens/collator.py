"""From tokenised triplets to one padded batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tspin.errors import InputError

__all__ = ["RESPONSES", "TripletCollator", "collated_extras", "padded_batches", "present_responses"]

RESPONSES = ("annotated_ids", "synthetic_ids", "proto_synthetic_ids")
"""Keys of an example in the order of their rows in a batch: y, y', y0. Behind them come those of
earlier policies, `earlier_synthetic_1_ids` and so on, where a method reads any."""


@dataclass(frozen=True)
class TripletCollator:
    """Makes one batch of rows prompt + response from B examples: all y, then all y', then all y0.

    One forward pass then sees every response under the same weights and the same dropout.

    An example is a mapping with `prompt_ids`, `annotated_ids`, `synthetic_ids` or None,
    `proto_synthetic_ids` or None (lists of token ids, the responses with their end token), and
    optionally `reference_logps` (one summed log-probability a response, in nats). What is None in
    one example is None in all of them. With R = k * B rows (k responses an example: 1 for SFT, 2
    without history, 3 with) and L tokens in the longest row, the batch has

    - `input_ids` (R, L) int64, right-padded;
    - `attention_mask` (R, L) int64, 0 on padding;
    - `response_mask` (R, L) bool, True on response tokens: those to be predicted;
    - `reference_logps` (k, B) float32, if the examples have them.

    Several y' of one prompt are examples of their own, one after the other, with their number as
    `sample`. Their y and y0 then have one row alone; besides the above the batch has

    - `rows` (k * B,): which of the R rows each response is;
    - `weights` (B,) float32: of each example, those of a prompt adding up to 1.

    Example:
        Two pairs, with 0 as padding and 2 as end token:

        >>> batch = TripletCollator(pad_token_id=0)([
        ...     {"prompt_ids": [1, 5], "annotated_ids": [6, 2], "synthetic_ids": [7, 8, 2],
        ...      "proto_synthetic_ids": None, "reference_logps": [-1.5, -2.0]},
        ...     {"prompt_ids": [1], "annotated_ids": [9, 2], "synthetic_ids": [2],
        ...      "proto_synthetic_ids": None, "reference_logps": [-0.5, -4.0]},
        ... ])
        >>> batch["input_ids"]
        tensor([[1, 5, 6, 2, 0],
                [1, 9, 2, 0, 0],
                [1, 5, 7, 8, 2],
                [1, 2, 0, 0, 0]])
        >>> batch["attention_mask"]
        tensor([[1, 1, 1, 1, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 1, 1, 1],
                [1, 1, 0, 0, 0]])
        >>> batch["response_mask"].long()
        tensor([[0, 0, 1, 1, 0],
                [0, 1, 1, 0, 0],
                [0, 0, 1, 1, 1],
                [0, 1, 0, 0, 0]])
        >>> batch["reference_logps"]
        tensor([[-1.5000, -0.5000],
                [-2.0000, -4.0000]])
    """

    pad_token_id: int
    pad_to_multiple_of: int = 1
    """L is rounded up to a multiple of this; 8 suits tensor cores."""

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate at least one example.

        Raises:
            InputError: a prompt is empty (nothing would predict the first response token), or
                a response is None in some examples only.
        """
        rows, which = _rows(examples)
        longest = max(len(prompt) + len(response) for prompt, response in rows)
        length = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = [
            [*prompt, *response] + [self.pad_token_id] * (length - len(prompt) - len(response))
            for prompt, response in rows
        ]
        start_R1 = torch.tensor([[len(prompt)] for prompt, _ in rows])
        end_R1 = torch.tensor([[len(prompt) + len(response)] for prompt, response in rows])
        position_L = torch.arange(length)
        batch = {
            "input_ids": torch.tensor(padded, dtype=torch.int64),
            # From the lengths, not from the ids: the padding token may be a real one too.
            "attention_mask": (position_L < end_R1).long(),
            "response_mask": (position_L >= start_R1) & (position_L < end_R1),
        }
        if len(rows) < len(which):
            batch["rows"] = torch.tensor(which)
        return batch | collated_extras(examples)


def _rows(
    examples: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Prompt and response of each row, and for each response which row it is; role by role."""
    rows: list[tuple[list[int], list[int]]] = []
    which: list[int] = []
    for key in present_responses(examples):
        for example in examples:
            if key == "synthetic_ids" or not example.get("sample"):
                rows.append((example["prompt_ids"], example[key]))
            which.append(len(rows) - 1)
    return rows, which


def collated_extras(examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """What comes with the tokens: `reference_logps` (k, B), `weights` (B,), if there are any."""
    extras: dict[str, Tensor] = {}
    if examples[0].get("reference_logps") is not None:
        reference_Bk = torch.tensor([e["reference_logps"] for e in examples], dtype=torch.float32)
        extras["reference_logps"] = reference_Bk.T.contiguous()
    if any(example.get("sample") for example in examples):
        starts = [at for at, example in enumerate(examples) if not example.get("sample")]
        sizes = [end - start for start, end in pairwise([*starts, len(examples)])]
        weights = [1 / size for size in sizes for _ in range(size)]
        extras["weights"] = torch.tensor(weights, dtype=torch.float32)
    return extras


def padded_batches(rows: Iterable[tuple[int, int, int]], budget: int) -> list[list[int]]:
    """Distribute examples over padded batches of at most `budget` tokens, padding counted.

    Those of like length come together. An example that is larger by itself is alone.

    Args:
        rows: For each example the tokens of its longest sequence, its sequences, and its number.
        budget: Rows times length of a batch.
    """
    batches: list[list[int]] = []
    height = length = 0
    for longest, sequences, number in sorted(rows, reverse=True):
        height += sequences
        if not batches or height * length > budget:
            batches.append([])
            height, length = sequences, longest  # The first is the longest.
        batches[-1].append(number)
    return batches


def present_responses(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of the responses that these examples have, as `RESPONSES`, then earlier ones.

    Raises:
        InputError: the examples do not go together, or a prompt has no tokens.
    """
    keys = _keys(examples[0])
    for example in examples:
        name = example.get("id", "?")
        if not example["prompt_ids"]:
            raise InputError(f"record '{name}': its prompt has no tokens; expected at least one")
        if _keys(example) != keys:
            raise InputError(f"record '{name}': expected the responses {keys}, as in the others")
    return keys


def _keys(example: Mapping[str, Any]) -> list[str]:
    earlier = (key for key in example if key.startswith("earlier_synthetic_"))
    return [key for key in (*RESPONSES, *earlier) if example.get(key) is not None]
