"""The responses of one file by their prompt's id."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

from tspin.errors import InputError
from tspin.records.manifest import Manifest
from tspin.records.records import Response, read_located, read_record_at

__all__ = ["ResponseLookup"]


class ResponseLookup:
    """Responses of one file by the prompt's id, read from the disk when asked for.

    Memory holds one byte offset a response and no texts. The file is open within `with`.

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
        self._offsets: dict[str, list[int]] = {}
        for offset, response in read_located(path, Response):
            offsets = self._offsets.setdefault(response.id, [])
            if response.sample != len(offsets):
                raise InputError(
                    f"{path}: sample {response.sample} of the response to {response.id!r} stands "
                    f"where sample {len(offsets)} belongs; generate again"
                )
            offsets.append(offset)
        self.unused = len(self._offsets)
        dropped = manifest.dropped_ids if manifest else {}
        self._dropped = {identity for ids in dropped.values() for identity in ids}
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        self._file = self.path.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, identity: str) -> list[Response]:
        """The responses, or none where generation dropped the prompt and its manifest says so.

        Raises:
            InputError: there is none, and the manifest does not say why.
        """
        offsets = self._offsets.get(identity)
        if offsets is None:
            if identity in self._dropped:
                return []
            raise InputError(
                f"{self.path}: no response for id {identity!r}; generate again from the same "
                "annotated records"
            )
        self.unused -= 1
        return [read_record_at(self._file, offset, Response) for offset in offsets]
