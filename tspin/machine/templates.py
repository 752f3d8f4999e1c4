"""What a chat template can carry, tried out with marker conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tspin.errors import InputError
from tspin.machine.check import Check
from tspin.tokens.chat import Chat
from tspin.tokens.chat_template import TemplateRefusalError
from tspin.tokens.conversation import CALL, CALLING, TOOL, Answer, Conversation
from tspin.tokens.prompts import PromptTemplate

__all__ = ["Finding", "check_template", "findings"]


@dataclass(frozen=True)
class Finding:
    """How a kind of conversation is trained."""

    kind: str
    outcome: Literal["equal", "repaired", "refused"]
    """equal: prompt and response are what the template renders. repaired: so are they, from a
    prompt that differs from the template's own, or they are what it would render if it kept the
    thought. refused: a record of this kind is an error."""
    detail: str = ""
    """What was repaired, or why it is refused."""


_NEEDED = ("question and answer", "earlier turns without system")
"""What nearly all records are."""


def check_template(template: PromptTemplate) -> Check:
    """Where responses end, and what a model's chat template cannot carry."""
    names = [template.token_name(index) for index in template.stop_ids]
    end = template.token_name(template.end_token_id)
    detail = f"{template.kind}; responses end with {end!r}, stops at {names}"
    if template.chat is None:
        return Check("prompt.template", "ok", detail)
    refused = [
        finding
        for finding in findings(template.chat, template.stops)
        if finding.outcome == "refused"
    ]
    needed = any(finding.kind in _NEEDED for finding in refused)
    kinds = "; ".join(f"{finding.kind}: it {finding.detail}" for finding in refused)
    told = f"{detail}; refused are {kinds}" if refused else detail
    return Check("prompt.template", "warn" if needed else "ok", told)


def findings(chat: Chat, stops: tuple[str, ...]) -> list[Finding]:
    """Try the kinds of conversations that records hold.

    Args:
        chat: Of the template.
        stops: Special tokens that end a response.
    """
    keeping = Chat(chat.template, "keep")
    return [_tried(keeping, *case, stops) for case in _cases()]


def _cases() -> Iterator[tuple[str, Conversation, Answer]]:
    system, question = _turn("system"), _turn("user")
    earlier = [_turn("user", "one"), _turn("assistant", "one")]
    answer = Answer("tspinresponse")
    yield "question and answer", Conversation([question]), answer
    yield "system turn", Conversation([system, question]), answer
    yield "earlier turns", Conversation([system, *earlier, question]), answer
    yield "earlier turns without system", Conversation([*earlier, question]), answer
    thought = Answer("tspinresponse", reasoning="tspinthought")
    yield "thought", Conversation([question]), thought
    calls = Answer("", tool_calls=[CALL])
    yield "tool call", Conversation([question], [TOOL]), calls
    yield "tool result", CALLING, answer


def _turn(role: str, number: str = "") -> dict[str, str]:
    return {"role": role, "content": f"tspin{role}turn{number}"}


def _tried(
    chat: Chat, kind: str, conversation: Conversation, answer: Answer, stops: tuple[str, ...]
) -> Finding:
    try:
        border = chat.prompt(conversation)
        text = border.prompt + chat.response(conversation, answer, stops)
        whole = chat.rendering(conversation, answer)
    except TemplateRefusalError as refusal:
        return Finding(kind, "refused", refusal.reason)
    except InputError as refusal:
        return Finding(kind, "refused", str(refusal))
    repairs = [border.repair] if border.repair else []
    if chat.takes_parts:
        repairs.append("contents handed over as parts")
    if not whole.startswith(text):
        repairs.append("the thought that the prompt opens is gone on with")
    return Finding(kind, "repaired" if repairs else "equal", "; ".join(repairs))
