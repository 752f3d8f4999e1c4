"""Rendering prompts and responses, the one place for generation, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from transformers import PreTrainedTokenizerBase

from tspin.config import PromptConfig
from tspin.errors import InputError
from tspin.records.messages import INSTRUCTION, Message, instruction_prompt
from tspin.records.records import AnnotatedRecord, Triplet
from tspin.tokens.chat import Chat
from tspin.tokens.chat_template import DATE, ChatTemplate
from tspin.tokens.codec import TextCodec
from tspin.tokens.conversation import THOUGHT_TAGS, Answer, Conversation
from tspin.tokens.ends import TurnEnds, named_tokens

__all__ = ["PromptTemplate", "TemplateKind"]

TemplateKind = Literal["chat", "instruction"]


class PromptTemplate:
    """Renders and tokenises prompts and responses; made by `PromptTemplate.load`.

    Prompt and response are tokenised apart, so their tokens never merge at the border, and the
    response is encoded as what follows a text (no space put in front). What is supervised of an
    annotation is `annotated_ids`: what the template renders after the prompt, up to one end token.
    Decoding the prompt's and its ids gives the template's own rendering.

    Special tokens written out in messages or responses stay plain characters.

    Attributes:
        kind: "chat" for a chat template, "instruction" for the papers' template.
        tokenizer: That it was made from.
        chat: The conversations of a chat template; None for the papers'.
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
        prompt: PromptConfig,
        *,
        generation: Sequence[int] = (),
        vocabulary: int | None = None,
    ) -> None:
        self.kind = kind
        self.tokenizer = tokenizer
        self._codec = TextCodec(tokenizer)
        self.chat: Chat | None = None
        text, tail, following, self.lead = INSTRUCTION, "", "", ""
        if kind == "chat":
            self.chat = Chat(ChatTemplate(tokenizer, prompt), prompt.reasoning)
            text, following = self.chat.template.source, self.chat.following
            tail, self.lead = self.chat.border.tail, self.chat.border.lead
        self._reasoning = prompt.reasoning
        ends = TurnEnds.of(
            tokenizer, self._codec, tail=tail, following=following, generation=generation
        )
        self.end_token_id, self.stop_ids = ends.trained, ends.stops
        pad = tokenizer.pad_token_id
        embedded = pad is not None and (vocabulary is None or pad < vocabulary)
        self.pad_token_id = pad if embedded else self.end_token_id
        decisive = [kind, text, self.lead, self._codec.prefix, self.end_token_id, self.stop_ids]
        specials = named_tokens(tokenizer, self.end_token_id)
        decisive += [str(DATE), specials, self._codec.digest]
        decisive += self._further_settings()
        self.hash = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptConfig | Literal["auto", "chat", "instruction"],
        *,
        generation: Sequence[int] = (),
        vocabulary: int | None = None,
    ) -> Self:
        """The template of a tokenizer; of a model's see `tspin.tokens.loading.load_template`.

        Args:
            tokenizer: A fast tokenizer.
            prompt: The configuration; or just its `template`: "chat" or "instruction", or "auto",
                which is "chat" if there is a chat template.
            generation: End tokens of the model's generation_config.json.
            vocabulary: Tokens that the model has embeddings for; None for all.

        Raises:
            InputError: "chat" without a chat template, a chat template that cannot render a
                question and its answer, no end token, or a tokenizer without a fast form.
        """
        settings = prompt if isinstance(prompt, PromptConfig) else PromptConfig(template=prompt)
        has_chat = bool(tokenizer.chat_template or settings.chat_template)
        asked = settings.template == "chat" or settings.chat_template_kwargs
        if asked and not has_chat:
            what = "chat_template_kwargs are set" if settings.template != "chat" else "is 'chat'"
            raise InputError(
                f"prompt.{'' if what[0] == 'c' else 'template '}{what}, but the tokenizer of "
                f"{tokenizer.name_or_path} has no chat template; set prompt.chat_template to a "
                "file with one, or use 'instruction', or 'auto'"
            )
        chat = has_chat and settings.template != "instruction"
        kind: TemplateKind = "chat" if chat else "instruction"
        return cls(tokenizer, kind, settings, generation=generation, vocabulary=vocabulary)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The prompt as text, up to where the response begins.

        Raises:
            InputError: the chat template refuses these messages (many refuse system turns), or
                leaves a part of them out.
        """
        return self._prompt(Conversation.of(messages, tools))

    def render_turns(self, turns: Sequence[Mapping[str, Any]]) -> str:
        """`render` of turns that are no records of ours: dicts with role and content."""
        return self._prompt(Conversation(turns))

    @property
    def unwritten_start(self) -> str:
        """What stands in front of every prompt and the chat template does not write: a BOS, or ''.

        Who renders by the template alone, as an endpoint for chats does, asks without it.
        """
        if self.chat is None:
            return ""
        rendered = self.render_turns([{"role": "user", "content": "?"}])
        prefix = self._codec.prefix
        written = self._codec.encode_start(rendered, specials=True)[: len(prefix)] == prefix
        return "" if written else "".join(map(self.token_name, prefix))

    def prompt_ids(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Ids that generation sees and training conditions on.

        The tokenizer's BOS stands in front exactly once, whether or not a chat template writes it.

        Raises:
            InputError: as `render`.
        """
        conversation = self._marked(Conversation.of(messages, tools))
        codec = self._codec
        ids = codec.encode_start(self._prompt(conversation), specials=self.kind == "chat")
        prefix = codec.prefix
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    def record_prompt_ids(self, record: AnnotatedRecord | Triplet) -> list[int]:
        """`prompt_ids` of a record, whose id its errors name."""
        try:
            return self.prompt_ids(record.messages, record.tools)
        except InputError as error:
            raise InputError(f"record {record.id!r}: {error}") from None

    def annotated_ids(self, record: AnnotatedRecord | Triplet) -> list[int]:
        """Ids of a record's annotation as the template renders it, with one end token.

        Raises:
            InputError: with the record's id: the rendering does not continue the prompt, or lacks
                a part of the annotation, or holds a thought that `prompt.reasoning` refuses.
        """
        try:
            return self._annotated_ids(record)
        except InputError as error:
            raise InputError(f"record {record.id!r}: {error}") from None

    def check(self, record: AnnotatedRecord) -> None:
        """Refuse a record that could not be trained, before anything is generated for it.

        Raises:
            InputError: as `annotated_ids`.
        """
        try:
            self._annotation(record)
        except InputError as error:
            raise InputError(f"record {record.id!r}: {error}") from None

    def response_ids(
        self, response: str, *, finished: bool = True, specials: bool = False
    ) -> list[int]:
        """Ids of a response that a policy wrote: its tokens, and one end token.

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
        return str(self.tokenizer.convert_ids_to_tokens(index))

    def _before_end(self, ids: Sequence[int]) -> Sequence[int]:
        end = next((at for at, index in enumerate(ids) if index in self.stop_ids), len(ids))
        return ids[:end]

    def install(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Give a tokenizer that is about to be saved the template that its model learned."""
        if self.chat is not None:
            self.chat.template.install(tokenizer)

    def _prompt(self, conversation: Conversation) -> str:
        if self.chat is not None:
            return self.chat.prompt(conversation).prompt
        if conversation.uses_tools:
            raise _no_place("tools")
        return instruction_prompt(conversation.turns)

    def _annotated_ids(self, record: AnnotatedRecord | Triplet) -> list[int]:
        text = self._annotation(record)
        if self.chat is None:
            return self.response_ids(text)
        ids = self._codec.encode_rendered(text)
        if ids and ids[-1] in self.stop_ids:
            return ids
        # The template has no end token of its own: what else it writes after a turn is no part.
        text = text.removesuffix(self.chat.border.tail)
        return [*self._codec.encode_rendered(text), self.end_token_id]

    def _annotation(self, record: AnnotatedRecord | Triplet) -> str:
        """What follows the prompt, special tokens of the annotation marked."""
        answer = Answer.of(record)
        if self.chat is None:
            self._prompt(Conversation.of(record.messages, record.tools))
            if answer.tool_calls:
                raise _no_place("tool calls")
            if answer.reasoning is not None and self._reasoning != "drop":
                raise _no_place("'reasoning_content'", "prompt.reasoning to drop, or ")
            return answer.content
        conversation = self._marked(Conversation.of(record.messages, record.tools))
        marked = answer.written(lambda text: self._codec.mark_specials(text, keep=THOUGHT_TAGS))
        return self.chat.response(conversation, marked, self.stops)

    @property
    def stops(self) -> tuple[str, ...]:
        """The tokens of `stop_ids` as they stand in a rendering."""
        names = self._codec.names
        return tuple(names[index] for index in self.stop_ids if index in names)

    def _marked(self, conversation: Conversation) -> Conversation:
        if self.kind == "instruction":
            return conversation
        return conversation.written(
            lambda role, text: self._codec.mark_specials(
                text, keep=THOUGHT_TAGS if role == "assistant" else ()
            )
        )

    def _further_settings(self) -> list[object]:
        """What decides the ids of a chat, but for what it always was; nothing where that is all."""
        if self.chat is None:
            return [] if self._reasoning == "error" else [self._reasoning]
        return self.chat.decisive()


def _no_place(what: str, remedy: str = "") -> InputError:
    return InputError(
        f"the instruction template has no place for {what}; set {remedy}prompt.template to 'chat'"
    )
