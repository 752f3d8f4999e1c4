"""Remote outputs: made in a folder on this machine, then put in place whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tspin.errors import InputError
from tspin.files import remove, sha256_file
from tspin.records.seconds import SECONDS
from tspin.store.location import RemoteLocation, cache_folder, is_remote

__all__ = ["Output", "making_key", "output_at"]

log = logging.getLogger(__name__)

_MANIFEST = ".manifest.json"
_CHECKPOINTS = ".checkpoints"


def making_key(name: str) -> str:
    """The mark of an output that is being put in place: what a kill leaves half-way is ours."""
    return f".{name}.making"


class Output:
    """Where an output is made on this machine, and how it gets into its place."""

    def __init__(self, path: Path) -> None:
        """A local output is made in its place."""
        self.path = path

    def push(self) -> None:
        """Put what is finished in its place; for a long work also now and then on the way."""


class _RemoteOutput(Output):
    def __init__(self, remote: RemoteLocation) -> None:
        self._remote = remote
        self.folder = cache_folder() / "made" / remote.key
        self._known: dict[str, str] = {}
        super().__init__(self.folder / remote.name)

    def pull(self) -> None:
        """Copy what the store has and this machine has not, so that work continues from it."""
        for key in self._remote.versions():
            target = self.folder / key
            if not target.exists():
                self._remote.store.download(key, target)
                self._known[key] = sha256_file(target)

    def push(self) -> None:
        """Copy what is new or has changed; a manifest after what it describes.

        An old manifest is deleted before its output is replaced: whoever looks in between sees an
        output that is not made, never one with another's manifest. Work may go on in the folder
        meanwhile: what is finished after the look at it is for the next time.
        """
        store = self._remote.store
        files = {path.relative_to(self.folder).as_posix(): path for path in self._finished()}
        hashes = {}
        for key, path in files.items():
            with suppress(FileNotFoundError):  # An output that is not of use is being made anew.
                hashes[key] = sha256_file(path)
        changed = [key for key, sha256 in hashes.items() if self._known.get(key) != sha256]
        if not changed:
            return
        store.write(making_key(self._remote.name), b"")
        for key in changed:
            if key.endswith(_MANIFEST):
                store.delete(key)
        for key in sorted(changed, key=lambda key: (key.endswith(_MANIFEST), key)):
            store.upload(files[key], key)
            self._known[key] = hashes[key]
        store.delete(making_key(self._remote.name))

    def _finished(self) -> Iterator[Path]:
        """Files in their place; each manifest with what it describes, which was there before it."""
        found = set(self.folder.rglob(f"*{_MANIFEST}"))
        found |= {path for path in self.folder.rglob("*") if not path.name.endswith(_MANIFEST)}
        for path in sorted(found):
            parts = path.relative_to(self.folder).parts
            # Journals and half-written files begin with a dot; of what does, a folder keeps only
            # where its time went.
            kept = parts[:-1] if len(parts) > 1 and parts[-1].endswith(SECONDS) else parts
            on_the_way = any(part.startswith(".") or part.endswith(_CHECKPOINTS) for part in kept)
            if path.is_file() and not on_the_way:
                yield path


@contextmanager
def output_at(location: str | Path) -> Iterator[Output]:
    """Yield an output that is in its place when the block ends without an error.

    What goes to `s3://bucket/key` is made in a folder of the cache. That stays after an error, so
    that the next try on this machine continues.

    Raises:
        InputError: another process makes the same output on this machine.
        TspinError: the store cannot be reached, or denies it.
    """
    if not is_remote(location):
        yield Output(Path(location))
        return
    output = _RemoteOutput(RemoteLocation.of(str(location)))
    output.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output.folder.with_suffix(".lock")).acquire(blocking=False):
            output.pull()
            yield output
            output.push()
            log.info("%s is in place", location)
            remove(output.folder)
    except Timeout:
        raise InputError(f"{location}: another process is making it on this machine") from None
