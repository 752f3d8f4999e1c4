"""The held-out records that a policy is measured on."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, read_records, record_error
from tspin.seeds import choose
from tspin.tokens.prompts import PromptTemplate

__all__ = ["Heldout"]


@dataclass(frozen=True)
class Heldout:
    """Records with their prompts tokenised, in the order of the file."""

    records: list[AnnotatedRecord]
    prompts: dict[str, list[int]]
    """By id, token ids."""
    dropped: list[str]
    """Ids of the records left out because they are longer than the limit."""

    @classmethod
    def read(
        cls,
        path: Path,
        template: PromptTemplate,
        *,
        max_records: int | None,
        max_length: int,
        max_new_tokens: int,
        over_long: Literal["error", "drop"],
    ) -> Heldout:
        """Read, choose and tokenise.

        Args:
            path: Annotated records.
            template: How they become tokens.
            max_records: Take only so many: those whose hashed id is lowest, a sample that does
                not depend on the order of the file.
            max_length: Tokens of a prompt and its response together.
            max_new_tokens: Room that generation needs behind a prompt, in tokens.
            over_long: What becomes of a record that is longer.

        Raises:
            InputError: a broken record, one that is too long, or none that is left.
        """
        records = list(read_records(path, AnnotatedRecord))
        if max_records is not None:
            chosen = {*choose((record.id for record in records), max_records)}
            records = [record for record in records if record.id in chosen]
        heldout = cls([], {}, [])
        for record in records:
            try:
                prompt = template.record_prompt_ids(record)
                needed = len(prompt) + max(max_new_tokens, len(template.annotated_ids(record)))
            except InputError as error:
                raise record_error(path, record.id, str(error)) from None
            if needed <= max_length:
                heldout.records.append(record)
                heldout.prompts[record.id] = prompt
            elif over_long == "drop":
                heldout.dropped.append(record.id)
            else:
                message = _too_long(record.id, len(prompt), needed, max_length)
                raise record_error(path, record.id, message)
        if not heldout.records:
            raise InputError(
                f"{path}: no record to evaluate on"
                + (f"; {len(heldout.dropped)} are too long" if heldout.dropped else "")
            )
        return heldout

    def blocks(self, size: int) -> dict[str, int]:
        """Numbers of blocks by record id: so many records each, the longest prompts first.

        That is the order in which engines answer. Shards of an evaluation hold whole blocks, and so
        compute what one process computes together, together.
        """
        order = sorted(self.prompts, key=lambda identity: (-len(self.prompts[identity]), identity))
        return {identity: at // size for at, identity in enumerate(order)}

    def only(self, identities: Container[str]) -> Heldout:
        """Some of the records, in the same order; what was dropped stays dropped."""
        records = [record for record in self.records if record.id in identities]
        prompts = {record.id: self.prompts[record.id] for record in records}
        return Heldout(records, prompts, self.dropped)


def _too_long(identity: str, prompt: int, needed: int, max_length: int) -> str:
    return (
        f"record {identity!r} has {prompt} prompt tokens and needs {needed} with its "
        f"response or with evaluate.max_new_tokens, more than {max_length}, the smaller of "
        "prompt.max_length and the model's context; raise prompt.max_length, lower "
        "evaluate.max_new_tokens, or set prompt.over_long to 'drop'"
    )
