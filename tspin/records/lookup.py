"""The responses of one file by their prompt's id."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

import orjson

from tspin.errors import InputError
from tspin.records.manifest import Manifest
from tspin.records.records import Response, read_located, read_record_at

__all__ = ["ResponseLookup"]


class ResponseLookup:
    """Responses of one file by the prompt's id, read from the disk when asked for.

    While prompts are asked for in the order of the file, as they are where both files come from
    the same records, memory holds the next response alone. From the first that comes in another
    order on, it holds one byte offset a response; no texts in either case. The file is open
    within `with`.

    Attributes:
        path: Of the file.
        unused: Prompts that nobody has asked for yet.
    """

    def __init__(self, path: Path, manifest: Manifest | None) -> None:
        """Go through the file once; the manifest says which prompts generation has dropped.

        Raises:
            InputError: a broken line, or samples of a prompt that are not in their order.
        """
        self.path = path
        self.unused = 0
        dropped = manifest.dropped_ids if manifest else {}
        self._dropped = {identity for ids in dropped.values() for identity in ids}
        together, following = True, ("", 0)
        for _, response in read_located(path, Response):
            together = together and (response.sample == 0 or response.key == following)
            following = response.id, response.sample + 1
            self.unused += response.sample == 0
        self._offsets = None if together else self._index()
        self._file: IO[bytes]
        self._next: Response | None

    def __enter__(self) -> Self:
        self._file = self.path.open("rb")
        self._next = self._read_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, identity: str) -> list[Response]:
        """The responses, or none where generation dropped the prompt and its manifest says so.

        Args:
            identity: Of a prompt that has not been asked for yet.

        Raises:
            InputError: there is none, and the manifest does not say why.
        """
        responses = [] if self._offsets is not None else self._read_next(identity)
        if not responses:
            if self._offsets is None and identity not in self._dropped:
                self._offsets = self._index()
            offsets = (self._offsets or {}).get(identity, ())
            responses = [read_record_at(self._file, offset, Response) for offset in offsets]
        if responses:
            self.unused -= 1
        elif identity not in self._dropped:
            raise InputError(
                f"{self.path}: no response for id {identity!r}; generate again from the same "
                "annotated records"
            )
        return responses

    def _read_next(self, identity: str) -> list[Response]:
        """The responses that come next in the file, if they are this prompt's."""
        responses = []
        while self._next is not None and self._next.id == identity:
            responses.append(self._next)
            self._next = self._read_on()
        return responses

    def _read_on(self) -> Response | None:
        line = self._file.readline()
        return Response.model_validate(orjson.loads(line)) if line else None

    def _index(self) -> dict[str, list[int]]:
        """By prompt, where its responses begin."""
        index: dict[str, list[int]] = {}
        for offset, response in read_located(self.path, Response):
            offsets = index.setdefault(response.id, [])
            if response.sample != len(offsets):
                raise InputError(
                    f"{self.path}: sample {response.sample} of the response to {response.id!r} "
                    f"stands where sample {len(offsets)} belongs; generate again"
                )
            offsets.append(offset)
        return index
