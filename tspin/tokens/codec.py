"""Text to token ids and back, in the middle of a text as well as at its start.

A tokenizer treats the start of a text in its own way: SentencePiece-like ones put a space in
front, and drop one again on decoding. A response stands in the middle of a text, after its prompt,
so it is encoded and decoded by a copy of the tokenizer without those steps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Container, Sequence
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from tspin.errors import InputError

__all__ = ["TextCodec"]

# Unicode noncharacters: no text for interchange contains them, so they can mark a place in one.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


class TextCodec:
    """Encodes prompts and their continuations with one tokenizer.

    Special tokens written out in plain text (a literal `</s>` in somebody's data) are encoded as
    the characters they are; only a chat template's own special tokens become special ids.

    Attributes:
        digest: Hex SHA-256 of the tokenizer's content.
        prefix: Ids that the tokenizer puts before every text (its BOS), often one or none.
        added_ids: Ids of the tokens that stand for themselves: special ones, and others.
        names: Their texts.
        special_ids: Ids of all special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                f"{tokenizer.name_or_path}: {type(tokenizer).__name__} has no fast form "
                "(tokenizer.json), which is needed to encode a response exactly as it stands "
                "after its prompt"
            )
        # Truncation and padding are the state of somebody's last call, not content.
        content = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
        self._json = json.dumps(content, sort_keys=True)
        self.digest = hashlib.sha256(self._json.encode()).hexdigest()
        self._start: Tokenizer = Tokenizer.from_str(self._json)
        self._middle: Tokenizer = Tokenizer.from_str(json.dumps(_without_start(content)))
        self._middle.encode_special_tokens = True
        added: dict[int, AddedToken] = self._start.get_added_tokens_decoder()
        self.added_ids = frozenset(added)
        self.names = {index: token.content for index, token in added.items()}
        self._specials = {index: token.content for index, token in added.items() if token.special}
        self.special_ids = frozenset(self._specials)
        self._unknown = tokenizer.unk_token_id
        self.prefix = self._find_prefix()

    def mark_specials(self, text: str, *, keep: Collection[str] = ()) -> str:
        """Replace written-out special tokens by marks that encoding turns back into text.

        Args:
            text: Of a message.
            keep: Tokens that may be meant as what they are.
        """
        marks = {token: mark for mark, token in self._marks.items()} | {name: name for name in keep}
        return self._pattern.sub(lambda match: marks[match.group()], text) if self._marks else text

    def encode_start(self, text: str, *, specials: bool) -> list[int]:
        """Ids of a prompt.

        Args:
            text: What a chat template gave, or plain text.
            specials: Names of special tokens in it are those tokens, other than marked ones;
                False: they are plain characters, all of them.
        """
        if not specials or _OPEN not in text:
            self._start.encode_special_tokens = not specials
            return list(self._start.encode(text, add_special_tokens=False).ids)
        return self._encode_marked(self._marking_start, text)

    def encode_middle(self, text: str, *, specials: Container[int] = ()) -> list[int]:
        """Ids of a text that continues another: no space in front, no special tokens.

        Args:
            text: As it stands after the other.
            specials: Special tokens whose names in the text stand for them after all.

        Raises:
            InputError: the tokenizer cannot write a special token's name as plain characters.
        """
        names = {name: index for index, name in self._specials.items() if index in specials}
        if names:
            parts = re.split(f"({'|'.join(map(re.escape, sorted(names, key=len)[::-1]))})", text)
            ids = [[names[part]] if part in names else self.encode_middle(part) for part in parts]
            return [index for part in ids for index in part]
        plain: list[int] = self._middle.encode(text, add_special_tokens=False).ids
        for index in plain:
            if index in self._specials and index != self._unknown:
                raise InputError(
                    f"the text contains {self._specials[index]!r}, and this tokenizer has no way "
                    "to encode that other than as its special token; remove it from the text"
                )
        return list(plain)

    def encode_rendered(self, text: str) -> list[int]:
        """Ids of what a chat template gave after a prompt, special tokens as in `encode_start`."""
        if _OPEN in text:
            return self._encode_marked(self._marking_middle, text)
        self._middle.encode_special_tokens = False
        ids: list[int] = self._middle.encode(text, add_special_tokens=False).ids
        self._middle.encode_special_tokens = True
        return list(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids that continue others, special tokens by their names.

        Bytes that are not valid UTF-8 become U+FFFD, the replacement character.
        """
        texts, start = list[str](), 0
        # Decoders may take a name to pieces: for some a low line in it is a space.
        for at, index in enumerate(ids):
            if index in self._specials:
                texts += [self._middle.decode(list(ids[start:at])), self._specials[index]]
                start = at + 1
        return "".join([*texts, self._middle.decode(list(ids[start:]))])

    def special_names(self, ids: Sequence[int]) -> list[str]:
        """Names of the special tokens among ids, in their order."""
        return [self._specials[index] for index in ids if index in self._specials]

    def _encode_marked(self, marking: Tokenizer, text: str) -> list[int]:
        ids: list[int] = []
        for index in marking.encode(text, add_special_tokens=False).ids:
            mark = marking.id_to_token(index)
            ids += self.encode_middle(self._marks[mark]) if mark in self._marks else [index]
        return ids

    def _find_prefix(self) -> list[int]:
        plain = self._start.encode("x", add_special_tokens=False).ids
        whole = self._start.encode("x", add_special_tokens=True).ids
        for at in range(len(whole) - len(plain) + 1):
            if whole[at : at + len(plain)] == plain:
                return list(whole[:at])
        return []

    @cached_property
    def _marks(self) -> dict[str, str]:
        return {f"{_OPEN}{index}{_CLOSE}": token for index, token in self._specials.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._specials.values(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    # Made only for data that writes special tokens out: the copy of a large vocabulary costs.
    @cached_property
    def _marking_start(self) -> Tokenizer:
        return self._with_marks(self._start)

    @cached_property
    def _marking_middle(self) -> Tokenizer:
        return self._with_marks(self._middle)

    def _with_marks(self, tokenizer: Tokenizer) -> Tokenizer:
        marking = Tokenizer.from_str(tokenizer.to_str())
        marking.add_special_tokens([AddedToken(mark, normalized=False) for mark in self._marks])
        return marking


def _without_start(node: Any) -> Any:
    """A tokenizer's JSON without the steps that treat the start of a text in their own way."""
    if isinstance(node, list):
        return [_without_start(item) for item in node if not _is_prepend(item)]
    if not isinstance(node, dict):
        return node
    changes: dict[str, Any] = {}
    match node.get("type"):
        case "Metaspace":
            changes = {"prepend_scheme": "never"}
        case "ByteLevel":
            changes = {"add_prefix_space": False}
        case "Strip" if "start" in node:  # A decoder that drops the space put in front.
            changes = {"start": 0}
    heavy = {"model", "added_tokens"}  # The vocabulary has no such steps, and is large.
    return {
        key: value if key in heavy else None if _is_prepend(value) else _without_start(value)
        for key, value in (node | changes).items()
    }


def _is_prepend(node: Any) -> bool:
    return isinstance(node, dict) and node.get("type") == "Prepend"
