"""A chat template: code of unknown origin, every fault of which becomes one message."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from tspin.config import PromptConfig
from tspin.errors import InputError
from tspin.store import fetch

__all__ = ["DATE", "ChatTemplate", "Dialect", "TemplateRefusalError", "Turns"]

Turns = Sequence[Mapping[str, Any]]
"""Messages as a chat template takes them."""

# Templates that print today's date would give another prompt tomorrow; theirs stands still.
DATE = datetime(2024, 7, 26)

_WAY_OUT = (
    "set prompt.template to 'instruction', or prompt.chat_template to a file with a template that "
    "does"
)


@dataclass(frozen=True)
class Dialect:
    """In which shape a template wants what can be said in several."""

    parts: bool = False
    """Contents are lists of parts, `[{"type": "text", "text": ...}]`, as for models that see."""
    thought: str = "reasoning_content"
    """The field of what an assistant turn thought."""
    json_arguments: bool = False
    """The arguments of a tool call are JSON text, not an object."""
    null_content: bool = False
    """The content of a turn that only calls tools is null, not empty."""

    def spoken(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """A turn in this shape."""
        spoken = dict(turn)
        content, calls = spoken["content"], spoken.get("tool_calls")
        if calls and not content:
            spoken["content"] = None if self.null_content else ""
        elif self.parts:
            spoken["content"] = [{"type": "text", "text": content}]
        if "reasoning_content" in spoken:
            spoken[self.thought] = spoken.pop("reasoning_content")
        if calls:
            spoken["tool_calls"] = [self._call(call) for call in calls]
        return spoken

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call.get("function", call)
        arguments = _shaped(function.get("arguments", {}), as_text=self.json_arguments)
        spoken = {**function, "arguments": arguments}
        return {"type": "function", **call, "function": spoken} if "function" in call else spoken


class TemplateRefusalError(InputError):
    """A template cannot render something.

    Attributes:
        reason: What it does, without its name and the way out.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}; {_WAY_OUT}")
        self.reason = reason


class ChatTemplate:
    """Renders conversations by a model's chat template, or by one from a file.

    Attributes:
        name: What messages call it.
        source: Its Jinja; of a model with several that for conversations without tools.
        sources: All its Jinja, with all that it is asked with: equal ones render equally.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: PromptConfig) -> None:
        """Find and compile the template.

        Args:
            tokenizer: Its own templates, and the special tokens that templates write.
            prompt: `chat_template` and `chat_template_kwargs` are used.

        Raises:
            InputError: no such file, several templates without a default, a template that is not
                Jinja, or a keyword that it does not know.
        """
        self._tokenizer = tokenizer
        self._file = None if prompt.chat_template is None else _read(prompt.chat_template)
        self._kwargs = dict(prompt.chat_template_kwargs)
        self.install(tokenizer)  # Whatever else asks this tokenizer then sees the same template.
        self.name = f"the chat template of {tokenizer.name_or_path or 'the model'}"
        if prompt.chat_template is not None:
            self.name = f"the chat template {prompt.chat_template} (prompt.chat_template)"
        self.source = self._find_source()
        own = tokenizer.chat_template
        several = own if isinstance(own, dict) and self._file is None else {"default": self.source}
        self.sources: dict[str, Any] = {"templates": several, "kwargs": self._kwargs}
        self._refuse_unknown_keywords("\n".join(several.values()))

    def render(
        self,
        turns: Turns,
        tools: Sequence[Any] | None = None,
        *,
        answered: bool,
        dialect: Dialect,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """A conversation as text.

        Args:
            turns: Of any roles.
            tools: That may be called.
            answered: Whether the last turn is the answer; otherwise one is asked for.
            dialect: The shape of the turns.
            kwargs: Over the configured ones, to try them out.

        Raises:
            InputError: the template refuses it, or fails in any other way.
        """
        options = {**self._kwargs, **(kwargs or {}), "add_generation_prompt": not answered}
        spoken = [dialect.spoken(turn) for turn in turns]
        try:
            return self._render(spoken, tools, options)
        except TemplateRefusalError:
            whole = [_whole(tool) for tool in tools or ()]
            if whole == list(tools or ()):
                raise
            with suppress(TemplateRefusalError):
                return self._render(spoken, whole, options)
            raise

    def _render(self, turns: Turns, tools: Sequence[Any] | None, options: Mapping[str, Any]) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tools=None if tools is None else list(tools),
                chat_template=self._file,
                tokenize=False,
                strftime_now=DATE.strftime,
                **options,
            )
        except TemplateSyntaxError as error:
            raise self.refusal(f"is not Jinja, line {error.lineno}: {_one_line(error)}") from None
        except Exception as error:  # noqa: BLE001  (what a template does is not ours to foresee)
            roles = [turn["role"] for turn in turns]
            raise self.refusal(
                f"refuses the roles {roles}: {_one_line(error)}. Remove or merge what it refuses"
            ) from None
        return str(text)

    def knows(self, word: str) -> bool:
        """Whether a name stands in its Jinja."""
        return word in self._known

    def writes(self, text: str) -> bool:
        """Whether a text stands in its Jinja."""
        return any(text in source for source in self.sources["templates"].values())

    def refusal(self, reason: str) -> TemplateRefusalError:
        """An error that names the template and the way out."""
        return TemplateRefusalError(self.name, reason)

    def install(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Give a tokenizer this template, if it came from a file, to be saved with it."""
        if self._file is not None:
            tokenizer.chat_template = self._file

    def _find_source(self) -> str:
        own = self._tokenizer.chat_template
        if self._file is None and isinstance(own, dict) and "default" not in own:
            folder = Path(self._tokenizer.name_or_path) / "additional_chat_templates"
            raise InputError(
                f"{self._tokenizer.name_or_path} has the chat templates {sorted(own)} and none of "
                "them is the default; set prompt.chat_template to the file of one (such as "
                f"{folder / f'{min(own)}.jinja'}), or prompt.template to 'instruction'"
            )
        try:
            return str(self._tokenizer.get_chat_template(self._file))
        except Exception as error:  # noqa: BLE001  (see `render`)
            raise self.refusal(f"cannot be used: {_one_line(error)}") from None

    def _refuse_unknown_keywords(self, source: str) -> None:
        words = sorted(set(re.findall(r"[A-Za-z_]\w+", source)))
        self._known = frozenset(words)
        for name in self._kwargs:
            if name not in self._known:
                near = difflib.get_close_matches(name, words, n=1)
                meant = f"; did you mean '{near[0]}'" if near else "; remove it"
                raise InputError(
                    f"prompt.chat_template_kwargs has '{name}', which {self.name} does not know"
                    f"{meant}"
                )


def _whole(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with what OpenAI's shape may leave out, and some templates ask for."""
    absent = {"description": "", "parameters": {"type": "object", "properties": {}}}
    if "function" not in tool:
        return {**absent, **tool}
    return {**tool, "function": {**absent, **tool["function"]}}


def _shaped(arguments: Any, *, as_text: bool) -> Any:
    """The arguments of a tool call as JSON text or as what it says; what is no JSON stays."""
    if as_text:
        return arguments if isinstance(arguments, str) else json.dumps(arguments)
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _read(location: str) -> str:
    path = fetch(location)
    if not path.is_file():
        raise InputError(
            f"prompt.chat_template: {location}: no such file; expected one with a chat template"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"prompt.chat_template: {location}: {error}; expected a file with a chat template "
            "(Jinja, UTF-8)"
        ) from None
    if not text.strip():
        raise InputError(f"prompt.chat_template: {location}: is empty; expected a chat template")
    return text


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    shown = text if len(text) <= 400 else f"{text[:400]} ..."
    return shown if name == "TemplateError" and shown else f"{name}: {shown}"
