"""Continue rows token by token, or by several tokens where a draft has them already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from tspin.engines.decoding.batch import Batch
from tspin.engines.decoding.drafts import Drafts
from tspin.engines.sampling import RowSampler

__all__ = ["decode"]

_FREE = 4
"""A part of the width: so many rows must have ended before waiting ones take over together."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    width: int,
    pad_token_id: int,
    sampler: RowSampler,
    ended: Callable[[Sequence[int]], bool],
    drafts: Sequence[Sequence[int]] = (),
) -> list[list[int]]:
    """Continue prompts token by token, some at a time; where a row has ended another takes over.

    Which rows are computed together depends on these arguments alone. Drafts change how many
    forward passes there are, and nothing else but rounding: every token is drawn from the model's
    own logits, with the noise that is next in its row's stream.

    Args:
        model: In evaluation mode, on its device.
        prompts: Token ids, at least one each.
        width: Rows at a time.
        pad_token_id: Stands where a prompt is shorter; it is never looked at.
        sampler: Draws the tokens; one row a prompt.
        ended: Whether a row has ended, from the tokens that it has emitted.
        drafts: What each row may come to emit, empty where nothing is known; or none at all.

    Returns:
        What each row emitted, the token that ended it included.
    """
    emitted: list[list[int]] = [[] for _ in prompts]
    expected = Drafts(drafts) if any(drafts) else None
    waiting, alive = deque(range(len(prompts))), list[int]()
    batch: Batch | None = None
    while waiting or alive:
        free = width - len(alive)
        if batch is None or (waiting and batch.takes_more and free >= max(1, width // _FREE)):
            joining = [waiting.popleft() for _ in range(min(free, len(waiting)))]
            entering = Batch.of(model, [prompts[row] for row in joining], pad_token_id)
            batch = entering if batch is None else batch.joined(entering)
            alive += joining
        left = _drawn(batch, alive, emitted, sampler, ended, expected)
        if len(left) < len(alive):
            alive = [alive[place] for place in left]
            batch = batch.kept(left) if left else None
        if batch is not None:
            guesses = expected.guesses(alive) if expected and batch.takes_guesses else ()
            batch.step([emitted[row][-1] for row in alive], guesses)
    return emitted


def _drawn(
    batch: Batch,
    alive: Sequence[int],
    emitted: Sequence[list[int]],
    sampler: RowSampler,
    ended: Callable[[Sequence[int]], bool],
    expected: Drafts | None,
) -> list[int]:
    """Draw each row's next token, and one more behind every guess that it makes true.

    Noise is drawn for a position once all tokens before it stand: streams never go back, and a
    wrong guess takes nothing from them.

    Returns:
        The places of the rows that have not ended.
    """
    left, going, counts = set(range(len(alive))), list(range(len(alive))), [0] * len(alive)
    for at in range(batch.logits.shape[1]):
        logits = batch.logits[:, at] if len(going) == len(alive) else batch.logits[going, at]
        tokens = sampler.draw(logits, [alive[place] for place in going]).tolist()
        drawn, going = list(zip(going, tokens, strict=True)), []
        for place, token in drawn:
            row, guesses = alive[place], batch.guesses[place]
            emitted[row].append(token)
            if expected is not None:
                expected.follow(row, emitted[row])
            if ended(emitted[row]):
                left.remove(place)
            elif at < len(guesses) and guesses[at] == token:
                counts[place] += 1
                going.append(place)
        if not going:
            break
    batch.accept(counts)
    return sorted(left)
