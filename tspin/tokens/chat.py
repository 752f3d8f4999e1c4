"""Conversations by a chat template: what is asked, and what an answer adds to it.

One rule: what the template renders is what is trained. For each record the prompt is compared
with the template's own rendering of the whole conversation; what cannot be made equal is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, Literal

from tspin.errors import InputError
from tspin.tokens.border import MARKER, Border, cut_at
from tspin.tokens.chat_template import ChatTemplate, Dialect, TemplateRefusalError
from tspin.tokens.conversation import (
    CALLING,
    QUESTION,
    TOOL,
    Answer,
    Conversation,
    missing_from_answer,
    missing_from_prompt,
    named_turn,
)

__all__ = ["Chat"]

_ANSWER = Answer(MARKER)
_SWITCHES = ("enable_thinking", "thinking")
"""Names by which templates know whether the model is to think."""


class Chat:
    """Prompts and responses as text, as a chat template renders them.

    Attributes:
        template: Renders them.
        border: Around the answer to a single question.
    """

    def __init__(
        self, template: ChatTemplate, reasoning: Literal["error", "keep", "drop"] = "error"
    ) -> None:
        """Ask the template a marker question.

        Args:
            template: Renders the conversations.
            reasoning: What becomes of an annotation's thought.

        Raises:
            InputError: no question and its answer can be rendered.
        """
        self.template = template
        self._reasoning = reasoning
        self._shapes: set[tuple[str, ...]] = set()
        problems: list[InputError] = []
        # Templates of models that see take contents in parts, and some drop all other text.
        for dialect in (Dialect(), Dialect(parts=True)):
            try:
                self._dialect = dialect
                self.border = self._border(QUESTION, dialect)
            except InputError as problem:
                problems.append(problem)
            else:
                return
        raise problems[0]

    def prompt(self, conversation: Conversation) -> Border:
        """Where the answer to a conversation begins.

        Raises:
            InputError: the template refuses the conversation, or leaves a part of it out.
        """
        if conversation.tools and not self._lists_tools:
            raise self.template.refusal("leaves out 'tools': the model would not know of them")
        self._refuse_lost_turns(conversation)
        return self._border(conversation, self._dialect_of(conversation))

    def response(self, conversation: Conversation, answer: Answer, stops: tuple[str, ...]) -> str:
        """What the model has to write, up to the first of its stops, or to the end.

        Args:
            conversation: That is answered.
            answer: The annotation.
            stops: Special tokens at which generation ends.

        Raises:
            InputError: what the template renders does not continue the prompt, or lacks a part of
                the answer.
        """
        answer = self._settled(answer)
        border = self.prompt(conversation)
        whole = self.rendering(conversation, answer)
        lost = None
        if whole.startswith(border.prompt):
            response = cut_at(whole.removeprefix(border.prompt), stops)
            lost = missing_from_answer(answer, response)
            if lost is None:
                return self._ended(response, border, stops)
        text = None
        if self.template.writes(border.closing) and not answer.tool_calls:
            text = border.continued(answer.content, answer.reasoning)
        if text is None:
            raise self._refusal(border, lost)
        return cut_at(text, stops)

    def rendering(self, conversation: Conversation, answer: Answer) -> str:
        """The template's own rendering of a whole conversation.

        Raises:
            InputError: the template refuses it.
        """
        return self._whole(conversation, answer, self._dialect_of(conversation, answer))

    @property
    def takes_parts(self) -> bool:
        """Whether contents are handed over as lists of parts."""
        return self._dialect.parts

    @property
    def following(self) -> str:
        """What the template writes between an answer and a user turn after it, if it can."""
        turns = [*QUESTION.turns, _ANSWER.turn(), *QUESTION.turns]
        with suppress(InputError):
            text = self.template.render(turns, answered=True, dialect=self._dialect)
            return text.rpartition(MARKER)[2].partition(QUESTION.turns[0]["content"])[0]
        return ""

    def advice(self) -> str:
        """The keyword that keeps this template from opening a thought, if there is one."""
        for name in _SWITCHES:
            if self.template.knows(name):
                switch = {name: False}
                with suppress(InputError):
                    if not self._border(QUESTION, self._dialect, switch).opening:
                        return f"set prompt.chat_template_kwargs to {{{name}: false}}, or "
        return ""

    def decisive(self) -> list[object]:
        """What decides the text besides the template of conversations without tools.

        Nothing where an answer stands in the rendering as it is, as it always did: what was made
        by earlier releases then still belongs together with what is made now.
        """
        spaced = f" {MARKER}\n"
        whole = self._whole(QUESTION, Answer(spaced), self._dialect)
        as_it_is = self.border.prompt + self.border.lead + spaced + self.border.tail
        sources = {"templates": {"default": self.template.source}, "kwargs": {}}
        settings = (self.template.sources, self._reasoning, self._dialect, self.border.repair)
        if whole == as_it_is and settings == (sources, "error", Dialect(), ""):
            return []
        return [self.template.sources, self._reasoning, asdict(self._dialect)]

    def _border(
        self,
        conversation: Conversation,
        dialect: Dialect,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Border:
        turns, tools = conversation.turns, conversation.tools
        render = partial(self.template.render, tools=tools, dialect=dialect, kwargs=kwargs)
        prompt = render(turns, answered=False)
        bare = render(turns, answered=True)
        whole = render([*turns, _ANSWER.turn()], answered=True)
        lost = missing_from_prompt(conversation, prompt)
        if lost is not None:
            raise self._lost(lost)
        if MARKER not in whole:
            raise self.template.refusal(
                "does not render an assistant turn, so its end of turn is unknown"
            )
        border = Border.of(prompt, bare, whole)
        if border is None:
            raise self.template.refusal(
                f"ends its prompt with {prompt[-40:]!r}, and renders an answer after something "
                f"else, {whole.rpartition(MARKER)[0][-40:]!r}"
            )
        return border

    def _whole(self, conversation: Conversation, answer: Answer, dialect: Dialect) -> str:
        turns = [*conversation.turns, answer.turn()]
        return self.template.render(turns, conversation.tools, answered=True, dialect=dialect)

    def _refuse_lost_turns(self, conversation: Conversation) -> None:
        """Ask with markers first: what a record says may stand in another of its turns too."""
        roles = tuple(turn["role"] for turn in conversation.turns)
        if roles in self._shapes or conversation.uses_tools:
            return
        markers = [f"tspin{role}{number}x" for number, role in enumerate(roles, start=1)]
        twin = [
            {"role": role, "content": marker} for role, marker in zip(roles, markers, strict=True)
        ]
        prompt = self.template.render(twin, answered=False, dialect=self._dialect)
        for number, marker in enumerate(markers, start=1):
            if marker not in prompt:
                raise self._lost(named_turn(number, conversation.turns[number - 1]))
        self._shapes.add(roles)

    def _dialect_of(self, conversation: Conversation, answer: Answer | None = None) -> Dialect:
        turns = [*conversation.turns, *([] if answer is None else [answer.turn()])]
        dialect = self._dialect
        if any("tool_calls" in turn for turn in turns):
            dialect = self._calling
        if any("reasoning_content" in turn for turn in turns):
            dialect = replace(dialect, thought=self._thought or dialect.thought)
        return dialect

    @cached_property
    def _calling(self) -> Dialect:
        """The shape in which the template renders a tool call as what it is."""
        problems: list[TemplateRefusalError] = []
        for dialect in _calling_dialects(self._dialect):
            try:
                prompt = self._border(CALLING, dialect).prompt
            except TemplateRefusalError as problem:
                problems.append(problem)
                continue
            # Python's or a doubly quoted form of an object is not what any model was trained on.
            forms = ("'tspinkey':", r"\"tspinkey\"", *(["None"] if dialect.null_content else []))
            if not any(form in prompt for form in forms):
                return dialect
        for refusal in problems:
            if not refusal.reason.startswith("leaves out"):
                raise refusal
        raise self.template.refusal(
            "leaves out tool calls, or has them as something else than JSON"
        )

    @cached_property
    def _lists_tools(self) -> bool:
        """Whether tools that may be called reach the prompt."""
        with suppress(InputError):
            self._border(Conversation(QUESTION.turns, [TOOL]), self._dialect)
            return True
        return False

    @cached_property
    def _thought(self) -> str | None:
        """The field whose thought the template renders with an answer."""
        answer = Answer(MARKER, reasoning="tspinthought")
        for name in ("reasoning_content", "thinking", "reasoning"):
            with suppress(InputError):
                dialect = replace(self._dialect, thought=name)
                if "tspinthought" in self._whole(QUESTION, answer, dialect):
                    return name
        return None

    def _settled(self, answer: Answer) -> Answer:
        if answer.reasoning is None or self._reasoning == "keep":
            return answer
        if self._reasoning == "drop":
            return replace(answer, reasoning=None)
        raise InputError(
            "its response has 'reasoning_content'; set prompt.reasoning to keep (to train the "
            "thought too) or to drop"
        )

    def _ended(self, response: str, border: Border, stops: tuple[str, ...]) -> str:
        """Some templates end a call of a tool with a token of its own."""
        ended = any(response.endswith(stop) for stop in stops)
        if ended or not border.tail.strip() or response.endswith(border.tail):
            return response
        raise self.template.refusal(
            f"ends this response with {response[-20:]!r}, at which generation would go on. Add "
            "that token to eos_token_id in the model's generation_config.json"
        )

    def _lost(self, what: str) -> InputError:
        return self.template.refusal(
            f"leaves out {what}: it would be in neither prompt nor response. Put what it says into "
            "a turn that the template renders"
        )

    def _refusal(self, border: Border, lost: str | None) -> InputError:
        if border.opening:
            return self.template.refusal(
                f"opens a thought in the prompt ({border.opening!r}) that its own rendering of "
                f"this response lacks: {self.advice()}give the thought, as <think>...</think> in "
                "the response or as 'reasoning_content' with prompt.reasoning: keep"
            )
        if lost is not None:
            return self.template.refusal(f"leaves out {lost}")
        return self.template.refusal(
            "does not render this response as a continuation of the prompt, which ends with "
            f"{border.prompt[-40:]!r}"
        )


def _calling_dialects(dialect: Dialect) -> Iterator[Dialect]:
    for null_content in (False, True):
        for json_arguments in (False, True):
            yield replace(dialect, null_content=null_content, json_arguments=json_arguments)
