"""A model as an image of OCI: the same bytes for the same model, its files below `/models`.

KServe mounts `/models` of an image (`oci+native://`), copies it (`oci+fetch://`), or starts the
image beside the server and has it linked (`oci://`, "modelcar"), with `sh -c 'ln -s ...; sleep'` as
the container's arguments (pkg/utils/storage.go). `modelcar_base_image` has a program of one
megabyte that does just this in the place of a shell, and nothing else.

olot 1.2.1 makes such images too, but writes times into them (`oci_layers_on_top`): an equal model
would have another digest each time, and all of it would be copied on the disk first.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["INDEX", "MANIFEST", "MODEL", "Blob", "Image", "ModelLayer"]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MODEL = "io.tspin.model"
"""Annotation: the content hash of the model."""
_FOLDER = "models"
_WEIGHTS = ".safetensors"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """Bytes that a registry keeps under their hash."""

    media_type: str
    content: bytes

    @cached_property
    def digest(self) -> str:
        """As OCI writes it."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content)

    def open(self) -> io.BufferedIOBase:
        """Its bytes, from the first one on."""
        return io.BytesIO(self.content)


class ModelLayer:
    """A layer with some files of a model: an uncompressed tar that is never written to a disk.

    Nothing of the machine goes into it: no owner, no time, and the names are sorted.
    """

    media_type = LAYER

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Reads nothing but sizes.

        Args:
            folder: Of the model.
            names: Of files in it, relative, with slashes.
        """
        self.names = sorted(names)
        self._parts: list[bytes | Path] = []
        self.size = 0
        parents = {str(p) for name in self.names for p in Path(_FOLDER, name).parents}
        for parent in sorted(parents - {"."}):
            self._add(_header(parent, tarfile.DIRTYPE, 0o755, 0))
        for name in self.names:
            size = (folder / name).stat().st_size
            self._add(_header(f"{_FOLDER}/{name}", tarfile.REGTYPE, 0o644, size))
            self._parts.append(folder / name)
            self.size += size
            self._add(bytes(-size % tarfile.BLOCKSIZE))
        self._add(bytes(2 * tarfile.BLOCKSIZE))

    def _add(self, content: bytes) -> None:
        self._parts.append(content)
        self.size += len(content)

    @cached_property
    def digest(self) -> str:
        """As OCI writes it; reads all files."""
        sha256 = hashlib.sha256()
        with self.open() as stream:
            while content := stream.read(_CHUNK):
                sha256.update(content)
        return f"sha256:{sha256.hexdigest()}"

    def open(self) -> io.BufferedIOBase:
        """Its bytes, from the first one on; files are opened one after another."""
        return io.BufferedReader(_Parts(self._parts, self.size), _CHUNK)


class _Parts(io.RawIOBase):
    """Bytes and files, one after the other, with a length, and from the beginning again."""

    def __init__(self, parts: list[bytes | Path], size: int) -> None:
        self._parts, self._size, self._position = parts, size, 0
        self._waiting: Iterator[bytes | Path] = iter(parts)
        self._current: io.BufferedIOBase = io.BytesIO()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not (count := self._current.readinto(buffer)):
            part = next(self._waiting, None)
            if part is None:
                return 0
            self._current.close()
            self._current = io.BytesIO(part) if isinstance(part, bytes) else part.open("rb")
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To the beginning, the end, or where it is."""
        before = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        place = before + offset
        if place != self._position:
            self._rewind()
            if place == self._size:
                self._waiting, self._position = iter(()), place
            elif place != 0:
                raise io.UnsupportedOperation(f"seek to {place} of {self._size}")
        return place

    def close(self) -> None:
        self._current.close()
        super().close()

    def _rewind(self) -> None:
        self._current.close()
        self._current, self._position = io.BytesIO(), 0
        self._waiting = iter(self._parts)


class Image:
    """All blobs and manifests of an image, for each architecture that the base has."""

    def __init__(self, folder: Path, model: str) -> None:
        """Lists the files of a model.

        Args:
            folder: Of the model.
            model: Its content hash.
        """
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        weights = sorted(name for name in names if name.endswith(_WEIGHTS))
        # What is small goes first: where there are no rights, no weights are read for nothing. Each
        # file of weights is a layer of its own, so that nodes pull several at a time.
        groups = [[name for name in names if name not in weights], *([name] for name in weights)]
        self.layers = [ModelLayer(folder, group) for group in groups if group]
        self._model = model

    def base_layers(self) -> Iterator[Blob]:
        """Those of the base, for all architectures."""
        for manifest in self._bases:
            yield from (_base_blob(d["digest"], d["mediaType"]) for d in manifest["layers"])

    def configs(self) -> list[Blob]:
        """The configuration for each architecture; reads all files."""
        return [self._config(manifest) for manifest in self._bases]

    def manifests(self) -> list[Blob]:
        """One for each architecture, in the order of the index."""
        described = [_described(layer) for layer in self.layers]
        return [
            _json(
                MANIFEST,
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": _described(self._config(base)),
                    "layers": [*base["layers"], *described],
                    "annotations": {MODEL: self._model},
                },
            )
            for base in self._bases
        ]

    def index(self) -> Blob:
        """What a tag names; its digest is the image's."""
        entries = [
            _described(manifest) | {"platform": base["platform"]}
            for manifest, base in zip(self.manifests(), self._bases, strict=True)
        ]
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return _json(INDEX, content | {"annotations": {MODEL: self._model}})

    @cached_property
    def _bases(self) -> list[dict[str, Any]]:
        """The manifests of the base, each with its platform."""
        root = json.loads((_base() / "index.json").read_bytes())
        index = json.loads(_base_blob(root["manifests"][0]["digest"], INDEX).content)
        return [
            json.loads(_base_blob(entry["digest"], MANIFEST).content)
            | {"platform": entry["platform"]}
            for entry in index["manifests"]
        ]

    def _config(self, base: Mapping[str, Any]) -> Blob:
        config = json.loads(_base_blob(base["config"]["digest"], CONFIG).content)
        # One entry for each layer. The time is the base's: ours would be another each time.
        made = {"created": config["created"], "created_by": "tspin export"}
        config["history"] += [made | {"comment": layer.names[0]} for layer in self.layers]
        config["rootfs"]["diff_ids"] += [layer.digest for layer in self.layers]
        config["config"]["Labels"] = {MODEL: self._model}
        return _json(CONFIG, config)


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf(tarfile.PAX_FORMAT)


def _described(blob: Blob | ModelLayer) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _json(media_type: str, content: Mapping[str, Any]) -> Blob:
    return Blob(media_type, json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _base() -> Path:
    import modelcar_base_image

    return Path(str(modelcar_base_image.__file__)).parent / "embedded_oci_layout"


def _base_blob(digest: str, media_type: str) -> Blob:
    path = _base() / "blobs" / digest.replace(":", "/")
    return Blob(media_type, path.read_bytes())
