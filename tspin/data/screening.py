"""From a raw row to a record, or to everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tspin.data.checks import content_flaws, surrogate_flaw
from tspin.data.duplicates import SeenRecords
from tspin.data.formats.conversations import Conversation, with_system
from tspin.data.formats.detection import present_keys
from tspin.data.formats.fields import RowFields, one_of
from tspin.data.formats.known import FORMATS, Format
from tspin.data.rows.problems import Flaw, Problem, Reason, RowError
from tspin.data.rows.row import RawRow
from tspin.records.records import AnnotatedRecord, content_id

__all__ = ["Screen"]

_MAX_NAMES = 200
_OTHERS = "(other fields)"
_EXTRA = "is not a field of an annotated record; remove it"


class Screen:
    """Turns the rows of one source into records; every row goes through the same checks.

    Args:
        form: The format of the rows.
        max_chars: Longest record in characters, None for no limit.
        seen: The records so far; a row with problems is not remembered there.
        needs_id: Whether a missing id is a problem. Otherwise the id is `records.content_id`.
    """

    def __init__(
        self, form: Format, max_chars: int | None, seen: SeenRecords, *, needs_id: bool = False
    ) -> None:
        self._form = form
        self._max_chars = max_chars
        self._seen = seen
        self._needs_id = needs_id
        self.ignored: Counter[str] = Counter()
        """Fields that records have no place for, with the number of good rows that had them."""

    def record(self, row: RawRow) -> AnnotatedRecord | list[Problem]:
        """The record that the row holds, or its problems (at least one)."""
        fields = RowFields(row.fields)
        keys = present_keys(row.fields)
        flaws = self._shape_flaws(keys)
        record: AnnotatedRecord | None = None
        if not flaws:
            try:
                record, flaws = self._checked(fields, row)
            except RowError as error:
                flaws = [error.flaw]
        if record is None or flaws:
            return [Problem(row.place, flaw) for flaw in flaws]
        for name in (*sorted(keys - self._form.reads), *dict.fromkeys(fields.ignored)):
            known = name in self.ignored or len(self.ignored) < _MAX_NAMES
            self.ignored[name if known else _OTHERS] += 1
        return record

    def _shape_flaws(self, keys: frozenset[str]) -> list[Flaw]:
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
        if self._form.strict:
            extra = sorted(keys - self._form.reads)
            flaws += [Flaw(Reason.EXTRA_FIELD, name, _EXTRA) for name in extra]
        return flaws

    def _checked(self, fields: RowFields, row: RawRow) -> tuple[AnnotatedRecord | None, list[Flaw]]:
        conversation = self._form.convert(fields)
        if self._form.strict and fields.ignored:
            name = fields.ignored[0]
            raise RowError(Reason.EXTRA_FIELD, name, _EXTRA)
        if "system" in self._form.takes:
            conversation = with_system(fields.optional_text("system"), conversation)
        form = self._form
        flaws = content_flaws(conversation, form.prompt_field, form.response_field, self._max_chars)
        record_id = self._given_id(fields.value("id"))
        if record_id is not None and (flaw := surrogate_flaw("id", record_id)) is not None:
            flaws.append(flaw)
        if flaws:
            return None, flaws
        content = content_id(conversation.messages, conversation.response)
        record = _record(record_id or content, conversation)
        duplicate = self._seen.add(row.place, record.id, content)
        return record, [] if duplicate is None else [duplicate]

    def _given_id(self, value: Any) -> str | None:
        if value is None and not self._needs_id:
            return None
        if value is None:
            message = "is missing; `tspin data import` gives every record one"
            raise RowError(Reason.MISSING_FIELD, "id", message)
        if isinstance(value, int) and not isinstance(value, bool) and not self._needs_id:
            return str(value)
        if not isinstance(value, str) or not value:
            expected = "text that is not empty" if self._needs_id else "text or a whole number"
            raise RowError(Reason.WRONG_TYPE, "id", f"is {value!r:.60}; expected {expected}")
        return value


def _record(record_id: str, conversation: Conversation) -> AnnotatedRecord:
    return AnnotatedRecord(
        id=record_id, messages=conversation.messages, response=conversation.response
    )
