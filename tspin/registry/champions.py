"""What a registry holds: models that never change, and the list of champions.

`models/HASH/...` are a model's files, `models/HASH/files.json` is written last and lists them:
without it the model counts as not there. `champion/00000001.json` and on are the records; a new
one is created under the next number, which one of many writers can do, on any store that knows
`create` (S3's `If-None-Match: *`). No pointer is ever overwritten, so none can be broken. Each
record holds the hash of the one before it and of its model's list of files. `models/HASH.images/`
has notes of the images that were made of a model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tspin.errors import GateRefusedError, InputError, TspinError
from tspin.registry.chain import record_key, walk
from tspin.registry.images import Images
from tspin.registry.models import FileList, Models
from tspin.registry.record import Record
from tspin.store import ConflictError, open_store

__all__ = ["Registry"]

_PROBE = "champion/.probe"


class Registry:
    """A prefix of a store."""

    def __init__(self, uri: str) -> None:
        """A folder, or a URI such as `s3://bucket/prefix`; need not exist yet."""
        self._store = open_store(uri)
        self._models = Models(self._store)
        self.images = Images(self._store)
        self.uri = self._store.uri

    def records(self) -> list[Record]:
        """All champions, the first one first; the last is the champion.

        Raises:
            TspinError: a record was changed or removed, or the store cannot be reached.
        """
        records = []
        for link in walk(self._store):
            if link.problem is not None or link.record is None:
                raise TspinError(f"{self.uri}/{link.key}: {link.problem}")
            records.append(link.record)
        return records

    def champion(self) -> Record | None:
        """The champion's record; None while nothing was promoted.

        Raises:
            TspinError: as `records`: no champion is named by a history that was changed.
        """
        records = self.records()
        return records[-1] if records else None

    def find(self, *, number: int | None = None, model: str | None = None) -> Record:
        """The record of a champion: today's, or the last one that is as it is asked for.

        Args:
            number: Of the record.
            model: The model's content hash, or how it begins.

        Raises:
            InputError: there is no such champion.
            TspinError: as `records`.
        """
        champions = [
            record
            for record in self.records()
            if number in (None, record.number) and record.model.startswith(model or "")
        ]
        if not champions:
            asked = {"number": number, "model": model}
            named = "".join(f" of {k} {v}" for k, v in asked.items() if v is not None)
            raise InputError(f"{self.uri}: there is no champion{named}")
        return champions[-1]

    def read(self, record: Record, name: str) -> bytes | None:
        """A small file of a record's model; see `tspin.registry.models.Models.read`."""
        return self._models.read(record, name)

    def verify(self, *, known: str | None = None) -> list[str]:
        """Read everything, and say all that is not as it was written.

        Args:
            known: The head of an earlier time, or how it begins: it must still be in the history.

        Returns:
            The SHA-256 of each record; the last is the head.

        Raises:
            InputError: `known` is in no history: the last records were changed or removed since.
            TspinError: a record or a model is not as it was written.
        """
        links = list(walk(self._store))
        problems = [f"{self.uri}/{k.key}: {k.problem}" for k in links if k.problem is not None]
        records = {k.record.model: k.record for k in reversed(links) if k.record is not None}
        for record in reversed(records.values()):
            problems += self._models.problems(record)
        if problems:
            raise TspinError("\n".join(problems))
        heads = [str(link.sha256) for link in links]
        if known is not None and not any(head.startswith(known) for head in heads):
            raise InputError(
                f"{self.uri}: no record has the sha256 {known}; if it was the head once, the last "
                "records were changed or removed since"
            )
        return heads

    def append(self, record: Record) -> Record:
        """Make a model the champion, unless someone else did so since.

        Returns:
            The record as it was written, chained to the one before it.

        Raises:
            GateRefusedError: there is another champion by now.
        """
        if record.previous is not None:
            before = self._store.read(record_key(record.previous))
            link = {"previous_sha256": hashlib.sha256(before).hexdigest()}
            record = record.model_copy(update=link)
        try:
            content = record.model_dump_json(indent=2).encode() + b"\n"
            self._store.create(record_key(record.number), content)
        except ConflictError:
            raise GateRefusedError(
                f"{self.uri}: another model became the champion while this one was compared; "
                "run again to compare with that one"
            ) from None
        return record

    def add_model(self, folder: Path) -> FileList:
        """Copy a model into the registry; see `tspin.registry.models.Models.add`."""
        return self._models.add(folder)

    def fetch(self, record: Record, out: Path, *, overwrite: bool | None = None) -> None:
        """Copy a record's model to a folder, which appears whole or not at all.

        Args:
            record: Names the model, and vouches for it.
            out: The folder; does nothing where the same files are there.
            overwrite: Move what is in the way aside (`tspin.outputs.check_output`).

        Raises:
            InputError: there is no such model, or something else stands in its place.
            TspinError: a file is not what was put in.
        """
        self._models.fetch(record, out, overwrite=overwrite)

    def probe(self) -> None:
        """Find out whether a promotion could be written, by what it does: read, and create.

        What is created is an empty object beside the records, always the same one. It stays
        there: whoever may promote need not be allowed to delete.

        Raises:
            InputError: the store cannot tell which of two promotions was first.
            TspinError: the store cannot be reached, or denies it; or a record was changed.
        """
        self.records()
        self._store.create(_PROBE, b"", same=True)
