"""How conversations become tokens: the one place for generation, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, Message, Triplet
from tspin.tokens.codec import TextCodec
from tspin.tokens.ends import TurnEnds, named_tokens

__all__ = ["CHAT_ARGUMENTS", "PromptTemplate", "TemplateKind"]

TemplateKind = Literal["chat", "instruction"]

# The papers' template; system and earlier turns are this project's rule (see `_instruction`).
_INSTRUCTION = "### Instruction: {content}\n\n### Response: "

# Templates that print today's date would give another prompt tomorrow; theirs stands still.
_DATE = datetime(2024, 7, 26)
CHAT_ARGUMENTS: dict[str, Any] = {"strftime_now": _DATE.strftime}

_QUESTION, _ANSWER = "question", "tspinanswer"


class PromptTemplate:
    """Renders and tokenises prompts and responses; made by `PromptTemplate.load`.

    Prompt and response are tokenised apart, so their tokens never merge at the border, and the
    response is encoded as what follows a text (no space put in front): decoding the prompt's and
    the response's ids gives `render(messages)` + the response. What is supervised is
    `response_ids`: the response's tokens and one end token.

    Special tokens written out in messages or responses stay plain characters.

    Attributes:
        kind: "chat" for the tokenizer's chat template, "instruction" for the papers' template.
        hash: Hex SHA-256 of everything that decides the ids; equal hashes give equal ids.
        end_token_id: The end token that is supervised and stopped at (`tspin.tokens.ends`): what
            the chat template puts after an assistant turn, otherwise most often the eos token.
        stop_ids: Tokens at which generation stops: the end token, eos where that is another (a base
            model under a chat template may end with its own), and all end tokens of the model's
            generation_config.json.
        pad_token_id: For padding, which masks leave out; the end token where there is no other.
        lead: White space that the chat template puts before the response ("[/INST] Yes" in
            Llama 2); it opens every encoded response and is no part of its text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: TemplateKind,
        *,
        generation: Sequence[int] = (),
        vocabulary: int | None = None,
    ) -> None:
        self.kind = kind
        self._tokenizer = tokenizer
        self._codec = TextCodec(tokenizer)
        text, tail, following, self.lead = _INSTRUCTION, "", "", ""
        if kind == "chat":
            text = tokenizer.get_chat_template()
            tail, self.lead = self._around_answer()
            following = self._before_next_turn()
        ends = TurnEnds.of(
            tokenizer, self._codec, tail=tail, following=following, generation=generation
        )
        self.end_token_id, self.stop_ids = ends.trained, ends.stops
        pad = tokenizer.pad_token_id
        embedded = pad is not None and (vocabulary is None or pad < vocabulary)
        self.pad_token_id = pad if embedded else self.end_token_id
        decisive = [kind, text, self.lead, self._codec.prefix, self.end_token_id, self.stop_ids]
        specials = named_tokens(tokenizer, self.end_token_id)
        decisive += [str(_DATE), specials, self._codec.digest]
        self.hash = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        kind: Literal["auto", "chat", "instruction"],
        *,
        generation: Sequence[int] = (),
        vocabulary: int | None = None,
    ) -> Self:
        """The template of a tokenizer; of a model's see `tspin.tokens.loading.load_template`.

        Args:
            tokenizer: A fast tokenizer.
            kind: "chat" or "instruction"; "auto" is "chat" if the tokenizer has a chat template.
            generation: End tokens of the model's generation_config.json.
            vocabulary: Tokens that the model has embeddings for; None for all.

        Raises:
            InputError: "chat" without a chat template, a chat template that cannot render a
                question and its answer, no end token, or a tokenizer without a fast form.
        """
        has_chat = bool(tokenizer.chat_template)
        if kind == "chat" and not has_chat:
            raise InputError(
                f"prompt.template is 'chat', but the tokenizer of {tokenizer.name_or_path} has no "
                "chat template; use 'instruction', or 'auto'"
            )
        resolved: TemplateKind = "chat" if has_chat and kind != "instruction" else "instruction"
        return cls(tokenizer, resolved, generation=generation, vocabulary=vocabulary)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text, up to where the response begins.

        Raises:
            InputError: the chat template refuses these messages (many refuse system turns).
        """
        return self._render([message.model_dump() for message in messages])

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids that generation sees and training conditions on.

        The tokenizer's BOS stands in front exactly once, whether or not a chat template writes it.

        Raises:
            InputError: the chat template refuses these messages.
        """
        codec, turns = self._codec, [message.model_dump() for message in messages]
        if self.kind == "chat":
            turns = [{**turn, "content": codec.mark_specials(turn["content"])} for turn in turns]
        ids = codec.encode_start(self._render(turns), specials=self.kind == "chat")
        prefix = codec.prefix
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    def record_prompt_ids(self, record: AnnotatedRecord | Triplet) -> list[int]:
        """`prompt_ids` of a record, whose id its errors name."""
        try:
            return self.prompt_ids(record.messages)
        except InputError as error:
            raise InputError(f"record {record.id!r}: {error}") from None

    def response_ids(
        self, response: str, *, finished: bool = True, specials: bool = False
    ) -> list[int]:
        """Ids of a response: its tokens, and one end token.

        Args:
            response: The text.
            finished: False for a sample cut off at the token limit, which never emitted its end.
            specials: True for a sample in which special tokens were emitted: their names in the
                text stand for them, other than those that end a response.

        Raises:
            InputError: the tokenizer cannot write a special token in the text as characters.
        """
        text = self.lead + response
        kept = self._codec.special_ids.difference(self.stop_ids) if specials else frozenset()
        ids = self._codec.encode_middle(text, specials=kept)
        return [*ids, self.end_token_id] if finished else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids up to the first end token; other special tokens by their names.

        Bytes that are not valid UTF-8 (a character cut off half-way) become U+FFFD.
        """
        return self._codec.decode(self._before_end(ids)).removeprefix(self.lead)

    def special_names(self, ids: Sequence[int]) -> list[str]:
        """Names of the special tokens among generated ids, up to the first end token."""
        return self._codec.special_names(self._before_end(ids))

    def token_name(self, index: int) -> str:
        """A token as the tokenizer writes it."""
        return str(self._tokenizer.convert_ids_to_tokens(index))

    def _before_end(self, ids: Sequence[int]) -> Sequence[int]:
        end = next((at for at, index in enumerate(ids) if index in self.stop_ids), len(ids))
        return ids[:end]

    def _render(self, messages: list[dict[str, str]], *, answered: bool = False) -> str:
        if self.kind == "instruction":
            return _instruction(messages)
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not answered,
                **CHAT_ARGUMENTS,
            )
        except TemplateError as error:
            roles = [message["role"] for message in messages]
            raise InputError(
                f"the model's chat template refuses the roles {roles}: {error}. Remove or merge "
                "what it refuses, or set prompt.template to 'instruction'"
            ) from None
        return str(text)

    def _around_answer(self) -> tuple[str, str]:
        """What the chat template puts after an assistant turn, and white space before it."""
        turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        asked, answered = self._render(turns[:1]), self._render(turns, answered=True)
        head, separator, tail = answered.rpartition(_ANSWER)
        if not separator:
            raise InputError(
                f"the chat template of {self._tokenizer.name_or_path} does not render an assistant "
                "turn, so its end of turn is unknown; set prompt.template to 'instruction'"
            )
        between = head.removeprefix(asked) if head.startswith(asked) else ""
        return tail, between if between.isspace() else ""

    def _before_next_turn(self) -> str:
        """What the chat template puts between an assistant turn and a user turn after it."""
        asked = {"role": "user", "content": _QUESTION}
        answered = {"role": "assistant", "content": _ANSWER}
        try:
            text = self._render([asked, answered, asked], answered=True)
        except InputError:  # For one question only.
            return ""
        return text.rpartition(_ANSWER)[2].partition(_QUESTION)[0]


def _instruction(messages: list[dict[str, str]]) -> str:
    """The papers' template around user turns; other turns and an empty line stand before them."""
    return "".join(
        _INSTRUCTION.replace("{content}", message["content"])
        if message["role"] == "user"
        else message["content"] + "\n\n"
        for message in messages
    )
