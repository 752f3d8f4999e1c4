"""The token that a tokenizer puts before every text, and that a chat template may leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["unwritten_start"]


def unwritten_start(tokenizer: Mapping[str, Any], template: str) -> str | None:
    """A token that training puts in front of every prompt and an endpoint for chats does not.

    vLLM's `/v1/chat/completions` asks what the chat template renders. Looked at without rendering:
    a template writes the token if its name stands in it, or `bos_token`.

    Args:
        tokenizer: Of the model: its tokenizer.json.
        template: Its chat template, Jinja.

    Returns:
        The token's text; None where there is none, or the template writes it.
    """
    for step in _steps(tokenizer.get("post_processor")):
        first = (step.get("single") or [{}])[0]
        if token := first.get("SpecialToken", {}).get("id"):
            return None if token in template or "bos_token" in template else str(token)
    return None


def _steps(processor: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(processor, dict):
        return
    if processor.get("type") == "Sequence":
        for part in processor.get("processors", []):
            yield from _steps(part)
    elif processor.get("type") == "TemplateProcessing":
        yield processor
