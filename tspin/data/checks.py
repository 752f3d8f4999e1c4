"""What is wrong with a conversation of the right shape: empty, repeated, too long, damaged."""

from __future__ import annotations

from collections.abc import Iterator

from tspin.data.formats.conversations import Conversation
from tspin.data.rows.problems import Flaw, Reason

__all__ = ["DEFAULT_MAX_CHARS", "content_flaws", "surrogate_flaw"]

DEFAULT_MAX_CHARS = 100_000
"""Characters of all turns and the response together, about 25,000 tokens of English.

Import has no tokenizer: this catches what is no record at all, such as files pasted into one row.
What is too long for a model is decided in tokens, by `prompt.max_length`, in each step.
"""


def content_flaws(
    conversation: Conversation, prompt_field: str, response_field: str, max_chars: int | None
) -> list[Flaw]:
    """Everything that is wrong with the texts of a conversation.

    Args:
        conversation: The conversation; its last message is the user's, or a tool's.
        prompt_field: Name of the field with the prompt, for messages.
        response_field: Name of the field with the response, for messages.
        max_chars: Longest record in characters; None for no limit.
    """
    return list(_flaws(conversation, prompt_field, response_field, max_chars))


def _flaws(
    conversation: Conversation, prompt_field: str, response_field: str, max_chars: int | None
) -> Iterator[Flaw]:
    asked = conversation.messages[-1].content
    response = conversation.target.content
    if not asked.strip() and conversation.messages[-1].role == "user":
        message = "holds an empty prompt; give the text that the response answers"
        yield Flaw(Reason.EMPTY_PROMPT, prompt_field, message)
    for number, message_ in enumerate(conversation.messages[:-1], start=1):
        if message_.role in ("user", "assistant") and not (
            message_.content.strip() or message_.tool_calls
        ):
            message = f"holds an empty turn (turn {number}, {message_.role}); give its text"
            yield Flaw(Reason.EMPTY_TURN, prompt_field, message)
    if not response.strip() and not conversation.target.tool_calls:
        message = "holds an empty response; give the annotated answer or remove the row"
        yield Flaw(Reason.EMPTY_RESPONSE, response_field, message)
    elif conversation.messages[-1].role == "user" and response.strip() == asked.strip():
        message = "holds a response identical to the prompt; give the annotated answer"
        yield Flaw(Reason.RESPONSE_IS_PROMPT, response_field, message)
    turns = [*conversation.messages, conversation.target]
    length = sum(len(turn.content) + len(turn.reasoning_content or "") for turn in turns)
    if max_chars is not None and length > max_chars:
        message = f"the record has {length:,} characters, the limit is {max_chars:,} (--max-chars)"
        yield Flaw(Reason.OVER_LONG, None, message)
    for turn in turns:
        field = response_field if turn is conversation.target else prompt_field
        for text in (turn.content, turn.reasoning_content, turn.tool_call_id, turn.name):
            # What is ASCII has no surrogates, and knows that it is.
            if text and not text.isascii() and (flaw := surrogate_flaw(field, text)) is not None:
                yield flaw


def surrogate_flaw(field: str, text: str) -> Flaw | None:
    r"""The flaw of a text that is not Unicode: half of a surrogate pair, such as `\ud83d`."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        message = f"holds half of a surrogate pair ({half}), a cut emoji perhaps; remove it"
        return Flaw(Reason.LONE_SURROGATE, field, message)
    return None
