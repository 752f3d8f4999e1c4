"""From a raw row to a record, or to everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from tspin.data.checks import content_flaws, surrogate_flaw
from tspin.data.duplicates import SeenRecords
from tspin.data.formats.conversations import Conversation, with_system
from tspin.data.formats.fields import RowFields, one_of
from tspin.data.formats.known import FORMATS, Format
from tspin.data.formats.labels import labelled_bad
from tspin.data.formats.values import present_keys, shown
from tspin.data.rows.opening import inner_suffix
from tspin.data.rows.problems import Flaw, Problem, Reason, RowError
from tspin.data.rows.row import RawRow
from tspin.errors import InputError
from tspin.records.messages import content_id, present

__all__ = ["DEFAULT_CHOICES", "Choices", "Screen"]

_MAX_NAMES = 200
_MAX_SHAPES = 1000
_OTHERS = "(other fields)"
_EXTRA = "is not a field of an annotated record; remove it"


@dataclass(frozen=True)
class Choices:
    """What becomes of rows that could be taken in more than one way."""

    trailing_user: Literal["error", "drop"] = "error"
    """A conversation that ends with a user turn: a problem, or what comes before that turn."""
    on_duplicate: Literal["error", "rename", "skip"] = "error"
    """An id that stands twice, with two contents: a problem, a new id, or one row left out."""
    ignore_extra: bool = False
    """Whether fields that mean nothing to a record are left out of tspin's own format too."""

    def __post_init__(self) -> None:
        """Refuse other values.

        Raises:
            InputError: a value is none of those.
        """
        known = {
            "trailing_user": ("error", "drop"),
            "on_duplicate": ("error", "rename", "skip"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected {one_of(values)}")


DEFAULT_CHOICES = Choices()


class Screen:
    """Turns the rows of one source into records; every row goes through the same checks.

    Args:
        form: The format of the rows.
        max_chars: Longest record in characters, None for no limit.
        seen: The records so far; a row with problems is not remembered there.
        finished: Whether the rows are to be records already: a missing id is a problem then, and
            so is whatever an import would convert. Otherwise an id is `messages.content_id`.
        choices: What becomes of rows that could be taken in more than one way.
    """

    def __init__(
        self,
        form: Format,
        max_chars: int | None,
        seen: SeenRecords,
        *,
        finished: bool = False,
        choices: Choices = DEFAULT_CHOICES,
    ) -> None:
        self._form = form
        self._max_chars = max_chars
        self._seen = seen
        self._finished = finished
        self._choices = choices
        self._strict = form.strict and not choices.ignore_extra
        self._shapes: dict[frozenset[str], list[Flaw]] = {}
        self.ignored: Counter[str] = Counter()
        """Fields that records have no place for, with the number of good rows that had them."""
        self.changed: Counter[str] = Counter()
        """What was done to good rows because the user asked for it, with their number."""
        self.thoughts = 0
        """Records whose response has a thought before it."""

    def record(self, row: RawRow) -> dict[str, Any] | list[Problem]:
        """The record that the row holds, as it stands in a file, or its problems (one or more)."""
        place = row.place
        texts = inner_suffix(place.file) in (".csv", ".tsv")
        fields = RowFields(row.fields, columnar=place.line is None, texts=texts)
        keys = present_keys(row.fields)
        on_purpose = False
        record: dict[str, Any] | None = None
        try:
            bad = self._labelled_bad(row.fields)
            flaws = [bad] if bad else self._shape_flaws(keys)
            on_purpose = bad is not None
            if not flaws:
                record, flaws, on_purpose = self._checked(fields, row)
        except RowError as error:
            flaws = [error.flaw]
        if record is None or flaws:
            return [Problem(row.place, flaw, on_purpose=on_purpose) for flaw in flaws]
        for name in (*sorted(keys - self._form.reads), *dict.fromkeys(fields.ignored)):
            known = name in self.ignored or len(self.ignored) < _MAX_NAMES
            self.ignored[name if known else _OTHERS] += 1
        return record

    def _labelled_bad(self, fields: dict[str, Any]) -> Flaw | None:
        if self._finished:
            return None
        name = labelled_bad(fields, lenient=self._choices.ignore_extra)
        return None if name is None else _bad(name, fields[name])

    def _shape_flaws(self, keys: frozenset[str]) -> list[Flaw]:
        flaws = self._shapes.get(keys)
        if flaws is None:
            flaws = self._flaws_of_shape(keys)
            if len(self._shapes) < _MAX_SHAPES:
                self._shapes[keys] = flaws
        return flaws

    def _flaws_of_shape(self, keys: frozenset[str]) -> list[Flaw]:
        missing = self._form.missing(keys)
        others = [form.name for form in FORMATS.values() if form.matches(keys)]
        if missing and others:
            message = f"row of the format {one_of(tuple(others))}, not of '{self._form.name}'"
            return [Flaw(Reason.OTHER_FORMAT, None, f"{message}; import it from its own file")]
        flaws = [
            Flaw(
                Reason.MISSING_FIELD,
                names[0],
                f"is missing; a '{self._form.name}' row needs {one_of(names)}",
            )
            for names in missing
        ]
        if self._strict:
            readable = self._form.reads if self._finished else self._form.imports
            flaws += [self._extra(name) for name in sorted(keys - readable)]
        return flaws

    def _extra(self, name: str) -> Flaw:
        hint = "" if self._finished else ", or leave such fields out with --ignore-extra"
        return Flaw(Reason.EXTRA_FIELD, name, _EXTRA + hint)

    def _checked(
        self, fields: RowFields, row: RawRow
    ) -> tuple[dict[str, Any] | None, list[Flaw], bool]:
        conversation = self._form.convert(fields)
        target = conversation.target
        if target.not_learned is not None and not self._finished:
            return None, [_bad(f"{self._form.response_field}[].{target.not_learned}", None)], True
        conversation = self._completed(fields, conversation)
        form = self._form
        flaws = content_flaws(conversation, form.prompt_field, form.response_field, self._max_chars)
        record_id = self._given_id(fields.value("id"))
        if record_id is not None and (flaw := surrogate_flaw("id", record_id)) is not None:
            flaws.append(flaw)
        if flaws:
            return None, flaws, False
        record = _record(record_id, conversation, fields.tools())
        content = record.pop("content")
        duplicate = self._duplicate(row, record, content)
        if duplicate is None:
            self.thoughts += "reasoning_content" in record
            self.changed["trailing user turns dropped"] += conversation.trailing is not None
        skipped = duplicate is not None and self._choices.on_duplicate == "skip"
        return record, [duplicate] if duplicate else [], skipped

    def _completed(self, fields: RowFields, conversation: Conversation) -> Conversation:
        """With what stands outside the turns: a system text and a thought; without the trailing."""
        if self._strict and fields.ignored:
            flaw = self._extra(fields.ignored[0])
            raise RowError(flaw.reason, flaw.field, flaw.message)
        if conversation.trailing is not None and self._choices.trailing_user == "error":
            field, problem = conversation.trailing
            hint = "--trailing-user drop takes what comes before the last user turn"
            raise RowError(Reason.WRONG_ROLES, field, f"{problem}; {hint}")
        fields.refuse_media()
        target = conversation.target
        target.tool_calls = target.tool_calls or fields.calls()
        target.reasoning_content = fields.thought(target.reasoning_content)
        return conversation if self._form.strict else with_system(fields.system(), conversation)

    def _duplicate(self, row: RawRow, record: dict[str, Any], content: str) -> Flaw | None:
        flaw = self._seen.add(row.place, record["id"], content)
        if flaw is None or flaw.reason is not Reason.DUPLICATE_ID or self._finished:
            return flaw
        if self._choices.on_duplicate != "rename":
            hint = "--on-duplicate rename gives it a new one"
            return Flaw(flaw.reason, flaw.field, f"{flaw.message}; {hint}")
        record["id"] = f"{record['id']}-{content}"
        flaw = self._seen.add(row.place, record["id"], content)
        self.changed["repeated ids renamed"] += flaw is None
        return flaw

    def _given_id(self, value: Any) -> str | None:
        if value is None and not self._finished:
            return None
        if value is None:
            message = "is missing; `tspin data import` gives every record one"
            raise RowError(Reason.MISSING_FIELD, "id", message)
        if isinstance(value, int) and not isinstance(value, bool) and not self._finished:
            return str(value)
        if not isinstance(value, str) or not value:
            expected = "text that is not empty" if self._finished else "text or a whole number"
            raise RowError(Reason.WRONG_TYPE, "id", f"is {value!r:.60}; expected {expected}")
        return value


def _bad(name: str, value: Any) -> Flaw:
    what = f"is {shown(value)}" if value is not None else "takes the response out of the loss"
    message = f"{what}: the response is marked as no example, and no annotation"
    return Flaw(Reason.LABELLED_BAD, name, message)


def _record(record_id: str | None, conversation: Conversation, tools: Any) -> dict[str, Any]:
    """The record as `AnnotatedRecord.as_json` has it, with its `content` id beside it.

    Everything in it was checked; building the model for each row would only double the time.
    """
    turns, target = conversation.messages, conversation.target
    further = {"reasoning_content": target.reasoning_content, "tool_calls": target.tool_calls}
    content = content_id(turns, target.content, {"tools": tools, **further})
    record: dict[str, Any] = {"content": content, "id": record_id or content}
    if len(turns) == 1:
        record["prompt"] = turns[0].content
    else:
        record["messages"] = [turn.as_json() for turn in turns]
    if tools:
        record["tools"] = tools
    record["response"] = target.content
    return record | present(further)
