"""What a registry holds: models that never change, and the list of champions.

`models/HASH/...` are a model's files, `models/HASH/files.json` is written last and lists them:
without it the model counts as not there. `champion/00000001.json` and on are the records; a new
one is created under the next number, which one of many writers can do, on any store that knows
`create` (S3's `If-None-Match: *`). No pointer is ever overwritten, so none can be broken.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from tspin.errors import GateRefusedError, InputError, TspinError
from tspin.files import atomic_folder, sha256_file
from tspin.outputs import check_output, copy_of
from tspin.records.manifest import content_hash
from tspin.registry.record import Record
from tspin.store import ConflictError, KeyMissingError, open_store

__all__ = ["Registry"]

_RECORDS = "champion/"
_FILES = "files.json"


class Registry:
    """A prefix of a store."""

    def __init__(self, uri: str) -> None:
        """A folder, or `s3://bucket/prefix`; need not exist yet."""
        self._store = open_store(uri)
        self.uri = self._store.uri

    def records(self) -> list[Record]:
        """All champions, the first one first; the last is the champion.

        Raises:
            TspinError: a record is damaged, or the store cannot be reached.
        """
        return [self._record(key) for key in self._store.list(_RECORDS)]

    def champion(self) -> Record | None:
        """The champion's record; None while nothing was promoted."""
        keys = list(self._store.list(_RECORDS))
        return self._record(keys[-1]) if keys else None

    def append(self, record: Record) -> None:
        """Make a model the champion, unless someone else did so since.

        Raises:
            GateRefusedError: there is another champion by now.
        """
        key = f"{_RECORDS}{record.number:08d}.json"
        try:
            self._store.create(key, record.model_dump_json(indent=2).encode() + b"\n")
        except ConflictError:
            raise GateRefusedError(
                f"{self.uri}: another model became the champion while this one was compared; "
                "run again to compare with that one"
            ) from None

    def add_model(self, folder: Path) -> str:
        """Copy a model into the registry; does nothing where it is there.

        Returns:
            Its content hash.
        """
        model = content_hash(folder)
        prefix = f"models/{model}"
        if not self.holds(model):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            listed = {}
            for path in files:
                name = path.relative_to(folder).as_posix()
                self._store.upload(path, f"{prefix}/{name}")
                listed[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            # Where another promotion of the same model was faster, the bytes are the same.
            self._store.write(f"{prefix}/{_FILES}", json.dumps(listed, indent=2).encode())
        return model

    def holds(self, model: str) -> bool:
        """Whether a model is there as a whole."""
        try:
            self._store.read(f"models/{model}/{_FILES}")
        except KeyMissingError:
            return False
        return True

    def fetch(self, model: str, out: Path, *, overwrite: bool | None = None) -> None:
        """Copy a model to a folder, which appears whole or not at all.

        Args:
            model: Its content hash.
            out: The folder; does nothing where the same files are there.
            overwrite: Move what is in the way aside (`tspin.outputs.check_output`).

        Raises:
            InputError: there is no such model, or something else stands in its place.
            TspinError: a file is not what was put in.
        """
        if not self.holds(model):
            raise InputError(f"{self.uri}: holds no model {model}")
        listed = json.loads(self._store.read(f"models/{model}/{_FILES}"))
        ours = copy_of({name: expected["sha256"] for name, expected in listed.items()})
        check_output(out, ours, folder=True, inputs=[self.uri], overwrite=overwrite)
        if out.is_dir() and any(out.iterdir()):
            return
        with atomic_folder(out) as temporary:
            for name, expected in listed.items():
                path = temporary / name
                self._store.download(f"models/{model}/{name}", path)
                if sha256_file(path) != expected["sha256"]:
                    raise TspinError(
                        f"{self.uri}/models/{model}/{name}: is not what was put in; its sha256 "
                        f"should be {expected['sha256']}"
                    )

    def _record(self, key: str) -> Record:
        try:
            return Record.model_validate_json(self._store.read(key))
        except ValidationError as error:
            raise TspinError(f"{self.uri}/{key}: not a record of a promotion: {error}") from None
