"""Images that were made of a registry's models: a note beside the model, written once.

No record names them: an image can be made at any time, and again; its digest follows from the files
that a record vouches for.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, ValidationError

from tspin.errors import TspinError
from tspin.registry.record import Record, now, user
from tspin.store import ConflictError, Store

__all__ = ["ImageNote", "Images"]


class ImageNote(BaseModel):
    """One image of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    """Of the format."""
    model: str
    """Content hash of the model."""
    files_sha256: str | None
    """Of the list of its files, as in the record of its champion."""
    image: str
    """`HOST/PATH@sha256:...`."""
    by: str
    at: str
    """UTC, ISO 8601; when it was first pushed there."""


class Images:
    """`models/HASH.images/...` of a store: outside of the models' own folders."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store

    def add(self, record: Record, image: str) -> None:
        """Note that an image was pushed; one that is noted already stays as it is.

        Args:
            record: Of the champion whose model it holds.
            image: `HOST/PATH@sha256:...`.

        Raises:
            TspinError: the store cannot be reached, or denies it.
        """
        note = ImageNote(
            model=record.model,
            files_sha256=record.files_sha256,
            image=image,
            by=user(),
            at=now(),
        )
        name = hashlib.sha256(image.encode()).hexdigest()[:32]
        try:
            content = note.model_dump_json(indent=2).encode() + b"\n"
            self._store.create(f"{_folder(record.model)}{name}.json", content)
        except ConflictError:
            return

    def of(self, model: str) -> list[ImageNote]:
        """The images of a model, the first one first.

        Raises:
            TspinError: a note is none, or the store cannot be reached.
        """
        notes = []
        for key in self._store.list(_folder(model)):
            try:
                notes.append(ImageNote.model_validate_json(self._store.read(key)))
            except ValidationError as error:
                raise TspinError(f"{self._store.uri}/{key}: no note of an image: {error}") from None
        return sorted(notes, key=lambda note: (note.at, note.image))


def _folder(model: str) -> str:
    return f"models/{model}.images/"
