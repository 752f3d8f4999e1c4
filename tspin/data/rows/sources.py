"""Which files an import reads, and what each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tspin.data.rows.objects import object_kind
from tspin.data.rows.opening import COMPRESSIONS, inner_suffix, open_bytes
from tspin.data.rows.splits import of_split
from tspin.errors import InputError, located

__all__ = ["ENDINGS", "SourceFile", "SourceFiles", "find_sources"]

Kind = Literal["lines", "array", "object", "columns", "table", "parquet", "arrow"]

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv", ".tsv")

_METADATA = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "metadata.json",
    "croissant.json",
    "config.json",
    "indices.arrow",
)
"""Files beside the rows in what `datasets` and the Hub write; `cache-*.arrow` are indices too, and
`*.manifest.json` are our own."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of rows."""

    path: Path
    kind: Kind


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of rows that a source holds, in the order in which they are read."""

    files: tuple[SourceFile, ...]
    ignored: tuple[Path, ...]
    """Files of a folder that hold no rows by their names (README.md, state.json, ...)."""


def find_sources(source: Path, split: str | None = None) -> SourceFiles:
    """The files to read for `source`: a file, or a folder with all its sub-folders.

    Args:
        source: A file (with one of `ENDINGS`, or another whose content tells) or a folder of files
            with these endings, read in the order of their paths.
        split: For a folder: only files whose path names this split; see `splits.of_split`.

    Raises:
        InputError: nothing is there; or the folder has files of several splits and `split` does
            not say which: held-out rows must not slip into the training data.
    """
    if source.is_file():
        return SourceFiles((SourceFile(source, _kind(source)),), ())
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder; expected {_endings()}")
    entries = [path for path in sorted(source.rglob("*")) if path.is_file()]
    readable = [path for path in entries if _is_rows(path.relative_to(source))]
    if not readable:
        raise InputError(f"{source}: no {_endings()} files in this folder")
    chosen = of_split(source, readable, split)
    files = tuple(SourceFile(path, _kind(path)) for path in chosen)
    return SourceFiles(files, tuple(path for path in entries if path not in set(chosen)))


def _is_rows(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    ending = inner_suffix(relative)
    return (
        ending in ENDINGS
        and not hidden
        and relative.name not in _METADATA
        and not relative.name.endswith(".manifest.json")
        and not (ending == ".arrow" and relative.name.startswith("cache-"))
    )


def _endings() -> str:
    return f"{', '.join(ENDINGS)}, or one of them compressed ({', '.join(COMPRESSIONS)})"


_KINDS: dict[str, Kind] = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "table",
    ".tsv": "table",
}


def _kind(path: Path) -> Kind:
    return _KINDS.get(inner_suffix(path)) or _sniff(path)


def _sniff(path: Path) -> Kind:
    """A .json file may be an array, an object or JSON Lines; its first bytes tell."""
    with open_bytes(path) as file:
        head = file.read(1 << 16)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "array"
    kind = object_kind(text.decode("utf-8", "surrogateescape")) if text[:1] == b"{" else None
    if kind is not None:
        return kind
    if text.split(b"\n", 1)[0].rstrip() == b"{":
        raise located(
            path,
            1,
            "one JSON object spread over lines; expected an array of rows, JSON Lines, an object "
            'with rows under "data", or columns as pandas writes them',
        )
    if inner_suffix(path) not in ENDINGS and not text.startswith(b"{"):
        raise InputError(f"{path}: not a file of rows; expected {_endings()}")
    return "lines"
