"""Where a chat template's prompt ends and its answer begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MARKER", "Border", "cut_at"]

MARKER = "tspinanswer"
"""An answer that stands in no other text of a template."""

_OPENING = re.compile(r"\s*(?:<([^<>/\s]+)>|\[([A-Z_]+)\])\s*")
"""A tag that a prompt opens for the answer to close: `<think>` with line ends around it."""


@dataclass(frozen=True)
class Border:
    """The parts of one rendered conversation around its answer.

    `prompt + between + answer + tail` is what the template renders, unless there is an `opening`.
    """

    prompt: str
    """What the answer continues: the template's generation prompt, with the header that a template
    without one puts before answers, and without white space that no answer has before it."""
    between: str
    """What the template writes before the text of an answer: a space, or an empty thought."""
    tail: str
    """What it writes after it: the end of turn, and more."""
    opening: str = ""
    """What `prompt` ends with and a rendered answer lacks: the beginning of a thought."""
    repair: str = ""
    """How `prompt` differs from what the template asks for an answer with."""

    @classmethod
    def of(cls, prompt: str, bare: str, whole: str) -> Border | None:
        """Compare a prompt with the same conversation and `MARKER` as its answer.

        Args:
            prompt: As the template asks for an answer.
            bare: The same conversation without being asked for one.
            whole: With the answer.

        Returns:
            None where the prompt is not the beginning of the whole and cannot be made so.
        """
        head, marker, tail = whole.rpartition(MARKER)
        if not marker:
            return None
        if head.startswith(prompt):
            between = head[len(prompt) :]
            # A template that ignores the question for a prompt writes the header of an answer
            # only with the answer. Spaces stay with the text: tokens of words begin with them.
            header = between.partition("<think>")[0].rstrip(" ") if prompt == bare else ""
            header = header if header.strip() else ""
            repair = f"{header!r} put at the end of the prompt" if header else ""
            return cls(prompt + header, between[len(header) :], tail, repair=repair)
        common = _common_beginning(prompt, head)
        surplus = prompt[len(common) :]
        if surplus.isspace():
            repair = f"{surplus!r} taken from the end of the prompt"
            return cls(common, head[len(common) :], tail, repair=repair)
        if _OPENING.fullmatch(surplus):
            return cls(prompt, "", tail, surplus)
        return None

    @property
    def lead(self) -> str:
        """White space before an answer that is no part of its text."""
        return self.between if self.between.isspace() else ""

    @property
    def closing(self) -> str:
        """The tag that ends what `opening` begins."""
        tag = _OPENING.fullmatch(self.opening or "<think>")
        name, word = tag.groups() if tag else ("think", None)
        return f"[/{word}]" if word else f"</{name}>"

    def continued(self, content: str, reasoning: str | None) -> str | None:
        """An answer with a thought as it continues the prompt, for a template that drops thoughts.

        Args:
            content: Of the answer, perhaps with the thought in it.
            reasoning: The thought, if it is apart.

        Returns:
            The response with the end of turn, nothing opened twice; None where there is no thought,
            or none may follow.
        """
        if self.prompt.rstrip().endswith(self.closing):
            return None
        if reasoning is not None:
            opening = self.opening.strip() or "<think>"
            content = f"{opening}\n{reasoning}\n{self.closing}\n\n{content}"
        if self.closing not in content:
            return None
        if not self.opening:
            return f"{self.lead}{content}{self.tail}"
        rest = content.lstrip().removeprefix(self.opening.strip())
        return (rest.lstrip("\n") if self.opening.endswith("\n") else rest) + self.tail


def cut_at(response: str, stops: Sequence[str]) -> str:
    """A response with the first of the tokens that stop generation as its end."""
    ends = [at + len(stop) for stop in stops if (at := response.find(stop)) >= 0]
    return response[: min(ends, default=None)]


def _common_beginning(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    differing = (at for at, (mine, theirs) in enumerate(pairs) if mine != theirs)
    return one[: next(differing, min(len(one), len(other)))]
