"""From tokenised triplets to one packed row: prompts once, nothing twice, no padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tspin.attention.layout import TreeLayout
from tspin.tokens.collator import collated_extras, present_responses

__all__ = ["PackingCollator", "Prompted", "first_fit", "pack"]

Prompted = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt (at least one) and of the responses to it, with their end tokens."""


def pack(prompted: Sequence[Prompted]) -> dict[str, Any]:
    r"""One row `[prompt | y | y' | y0 | prompt | y | ...]` for one forward pass.

    A response's last token is left out: nothing is predicted from it. Equal responses to a prompt
    are in the row once. With T tokens in the row, U different responses, R responses in all (in
    the order given) and N tokens to be predicted, the batch has, all int64 but the `TreeLayout`,

    - `input_ids` and `position_ids` (1, T): each response goes on where its prompt ends; `tree`;
    - `targets` (N,): the tokens to be predicted, response by response;
    - `predicted_at` (N,): the position in the row that each is predicted at; a response's first
      token at the last of its prompt;
    - `lengths` (U,): tokens of each response, which N is the sum of;
    - `rows` (R,): which of the U each response is.

    Example:
        A prompt of two tokens with two responses, of two tokens and of one:

        >>> batch = pack([([1, 5], [[6, 2], [2], [6, 2]])])
        >>> batch["input_ids"], batch["position_ids"]
        (tensor([[1, 5, 6]]), tensor([[0, 1, 2]]))
        >>> batch["targets"], batch["predicted_at"]
        (tensor([6, 2, 2]), tensor([1, 2, 1]))
        >>> batch["lengths"], batch["rows"]
        (tensor([2, 1]), tensor([0, 1, 0]))
    """
    ids: list[int] = []
    targets: list[int] = []
    predicted_at: list[int] = []
    lengths: list[int] = []
    rows: list[int] = []
    layout: list[tuple[int, list[int]]] = []
    for prompt, responses in prompted:
        ids += prompt
        last, before = len(ids) - 1, len(lengths)
        different, which = _different(responses)
        for response in different:
            if response:
                predicted_at += [last, *range(len(ids), len(ids) + len(response) - 1)]
            targets += response
            lengths.append(len(response))
            ids += response[:-1]
        rows += [before + number for number in which]
        layout.append((len(prompt), [max(len(response) - 1, 0) for response in different]))
    tree = TreeLayout(layout)
    one_row = {"input_ids": [ids], "position_ids": [tree.positions()]}
    lists = {"targets": targets, "predicted_at": predicted_at, "lengths": lengths, "rows": rows}
    tensors = {name: torch.tensor(values, dtype=torch.int64) for name, values in lists.items()}
    return {**{name: torch.tensor(row) for name, row in one_row.items()}, "tree": tree, **tensors}


def first_fit(items: Iterable[int], tokens: Callable[[int], int], budget: int) -> list[list[int]]:
    """Distribute items over rows of at most `budget` tokens; a larger one gets a row of its own.

    The largest first, each into the first row with room for it: never more than 11/9 of the
    fewest rows possible, and one. Equal input gives equal rows.

    Args:
        items: In the order in which they are placed.
        tokens: Of one item.
        budget: Tokens a row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(items, key=lambda item: (-tokens(item), item)):
        needed = tokens(item)
        at = next((at for at, left in enumerate(room) if needed <= left), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(budget)
        rows[at].append(item)
        room[at] -= needed
    return rows


class PackingCollator:
    """Makes one packed row from B examples as `tspin.tokens.collator.TripletCollator` takes them.

    The batch is that of `pack`, with `rows` in the order of roles: all y, then all y', then all
    y0. `reference_logps` (k, B) float32 is there if the examples have them, and so are `weights`
    (B,) where a prompt has several y'; it is in the row once all the same.
    """

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate at least one example.

        Raises:
            InputError: as `tspin.tokens.collator.TripletCollator`.
        """
        keys = present_responses(examples)
        prompted: list[tuple[Sequence[int], list[Sequence[int]]]] = []
        for example in examples:
            if not example.get("sample"):
                prompted.append((example["prompt_ids"], []))
            prompted[-1][1].extend(example[key] for key in keys)
        batch = pack(prompted)
        by_role: Tensor = batch["rows"].view(len(examples), len(keys)).T
        return batch | {"rows": by_role.flatten()} | collated_extras(examples)


def _different(responses: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """The responses without repetitions, and for each one given which of them it is."""
    sequences: dict[tuple[int, ...], int] = {}
    which = [sequences.setdefault(tuple(response), len(sequences)) for response in responses]
    return [list(response) for response in sequences], which
