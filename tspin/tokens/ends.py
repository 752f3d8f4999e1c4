"""Where a turn of a policy ends: what training closes a response with, and all that it stops at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tspin.errors import InputError
from tspin.tokens.codec import TextCodec

__all__ = ["TurnEnds", "name_end_token", "named_tokens"]


@dataclass(frozen=True)
class TurnEnds:
    """The end tokens of a policy, the same for generation, training and whoever loads it."""

    trained: int
    """Closes a response in training."""
    stops: tuple[int, ...]
    """End a response in generation, in order: the trained one, the tokenizer's eos, and all end
    tokens of the model's generation_config.json."""

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        codec: TextCodec,
        *,
        tail: str,
        following: str,
        generation: Sequence[int],
    ) -> TurnEnds:
        """Find the end tokens.

        A template that puts a token behind an assistant turn says which one ends it. Some put none
        (GLM-4): their models end a turn with the token that opens the next one, and name that in
        generation_config.json. Without either it is the tokenizer's eos token, unless the model
        stops at other tokens only.

        Args:
            tokenizer: Of the policy.
            codec: Of the tokenizer.
            tail: What the template puts behind the last assistant turn.
            following: What it puts behind one that a user turn follows.
            generation: End tokens of the model's generation_config.json.

        Raises:
            InputError: no end token at all, or several that each could be the one.
        """
        eos = tokenizer.eos_token_id
        own, opener = (_first_added(codec, text) for text in (tail, following))
        if own is None and opener in generation:
            own = opener
        if own is None and eos is not None and (eos in generation or not generation):
            own = eos
        if own is None and len(set(generation)) == 1:
            own = generation[0]
        if own is None:
            raise _unknown(tokenizer, generation)
        known = {own, *generation} | (set() if eos is None else {eos})
        return cls(int(own), tuple(sorted(known)))


def _first_added(codec: TextCodec, text: str) -> int | None:
    ids = codec.encode_start(text, specials=True)
    return next((index for index in ids if index in codec.added_ids), None)


def _unknown(tokenizer: PreTrainedTokenizerBase, generation: Sequence[int]) -> InputError:
    if not generation:
        return InputError(
            f"the tokenizer of {tokenizer.name_or_path} has no eos token, so no response could "
            "end; set eos_token in its tokenizer_config.json"
        )
    names = [tokenizer.convert_ids_to_tokens(index) for index in generation]
    return InputError(
        f"the prompt template of {tokenizer.name_or_path} puts no end token behind an assistant "
        f"turn, and the model stops at each of {names} (eos_token_id in generation_config.json), "
        "so the one to train with is unknown; set eos_token in tokenizer_config.json to one of them"
    )


def name_end_token(tokenizer: PreTrainedTokenizerBase, end: int) -> PreTrainedTokenizerBase:
    """Make the token that ends a turn the tokenizer's eos token, for whoever loads it afterwards.

    It stays as it is where that would change more than where a response ends: if a chat template
    writes the eos token, or the end token is not a special one.

    Args:
        tokenizer: Is changed.
        end: The token that training closes responses with.
    """
    tokenizer.eos_token = named_tokens(tokenizer, end).get("eos_token")
    return tokenizer


def named_tokens(tokenizer: PreTrainedTokenizerBase, end: int) -> dict[str, Any]:
    """The tokenizer's special tokens by role, as `name_end_token` leaves them."""
    named, token = dict(tokenizer.special_tokens_map), tokenizer.added_tokens_decoder.get(end)
    if token is None or not token.special or "eos_token" in str(tokenizer.chat_template):
        return named
    return named | {"eos_token": token.content}
