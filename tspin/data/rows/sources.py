"""Which files an import reads, and what each of them is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tspin.errors import InputError, located

__all__ = ["ENDINGS", "SourceFile", "SourceFiles", "find_sources"]

Kind = Literal["lines", "array", "parquet"]

ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet")

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "heldout": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
}


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
    """Files of a folder that hold no rows by their names (README.md, ...)."""


def find_sources(source: Path, split: str | None = None) -> SourceFiles:
    """The files to read for `source`: a file, or a folder with all its sub-folders.

    Args:
        source: A file (.jsonl, .ndjson, .json, .parquet, or another whose content tells) or a
            folder of files with these endings, read in the order of their paths.
        split: For a folder: only files whose path names this split (`train`, `test`,
            `validation`; as `train-00000-of-00001.parquet` or `train/0.jsonl`).

    Raises:
        InputError: nothing is there; or the folder has files of several splits and `split` does
            not say which: held-out rows must not slip into the training data.
    """
    if source.is_file():
        return SourceFiles((SourceFile(source, _kind(source)),), ())
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder; expected {_endings()}")
    entries = [path for path in sorted(source.rglob("*")) if path.is_file()]
    readable = [path for path in entries if path.suffix.lower() in ENDINGS and not _hidden(path)]
    if not readable:
        raise InputError(f"{source}: no {_endings()} files in this folder")
    chosen = _of_split(source, readable, split)
    files = tuple(SourceFile(path, _kind(path)) for path in chosen)
    return SourceFiles(files, tuple(path for path in entries if path not in set(chosen)))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(".manifest.json")


def _endings() -> str:
    return ", ".join(ENDINGS)


def _of_split(source: Path, paths: list[Path], split: str | None) -> list[Path]:
    splits = {path: _split_of(path.relative_to(source)) for path in paths}
    names = {name for name in splits.values() if name is not None}
    if split is None:
        if len(names) > 1:
            listed = ", ".join(sorted(names))
            raise InputError(
                f"{source}: this folder holds several splits ({listed}); import one of them: "
                "name the split, or one file, or the folder of one split"
            )
        return paths
    aliases = _SPLIT_NAMES.get(split, split)
    chosen = [path for path in paths if splits[path] == aliases]
    if not chosen:
        listed = ", ".join(sorted(names)) or "none are named"
        raise InputError(f"{source}: no files of the split '{split}'; splits found: {listed}")
    return chosen


def _split_of(relative: Path) -> str | None:
    words = re.split(r"[^a-z]+", relative.as_posix().lower())
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), None)


def _kind(path: Path) -> Kind:
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        return "lines"
    if ending == ".parquet":
        return "parquet"
    return _sniff(path)


def _sniff(path: Path) -> Kind:
    """A .json file may be an array or JSON Lines; its first bytes tell."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "array"
    if text.split(b"\n", 1)[0].rstrip() == b"{":
        raise located(
            path, 1, "one JSON object spread over lines; expected an array of rows or JSON Lines"
        )
    if path.suffix.lower() not in ENDINGS and not text.startswith(b"{"):
        raise InputError(f"{path}: not a file of rows; expected {_endings()}")
    return "lines"
