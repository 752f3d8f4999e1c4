"""Which split a file of a folder belongs to: what its name, or its folder's, says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tspin.data.rows.opening import COMPRESSIONS
from tspin.errors import InputError

__all__ = ["fitting_split", "of_split", "split_name"]

_KINDS = {
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
"""The words that make a name one of a split, and what each means."""

_SHARD = re.compile(r"-(\d{5})-of-\d{5}(-[0-9a-zA-Z]+)?$")
_NUMBER = re.compile(r"[-._ ]*\d+$")


def of_split(source: Path, paths: list[Path], split: str | None) -> list[Path]:
    """The files of one split, in their order.

    Args:
        source: The folder.
        paths: Its files of rows.
        split: A split's name as the files have it, such as `train_sft`, or a word of it that only
            one split has, such as `train`; None where there is just one.

    Raises:
        InputError: there is no such split, or several fit; with the list of all.
    """
    names = {path: _saved_name(path) or split_name(path.relative_to(source)) for path in paths}
    known = {name for name in names.values() if name is not None}
    if split is None and len(known) < 2:
        chosen = paths
    else:
        name = fitting_split(str(source), known, split)
        chosen = [path for path in paths if names[path] == name]
    _refuse_configurations(source, chosen)
    return chosen


def fitting_split(source: str, names: set[str], split: str | None) -> str:
    """The one of some splits that is meant.

    Args:
        source: Whose splits these are, for messages.
        names: Of the splits.
        split: A name among them, or a word that only one of them has; None where there is one.

    Raises:
        InputError: none fits, or several do; with the list of all.
    """
    listed = ", ".join(sorted(names)) or "none are named"
    fitting = names if split is None else _fitting(names, split)
    if split is None and len(fitting) != 1:
        raise InputError(
            f"{source}: holds several splits ({listed}); import one of them: name the split "
            "(--split), or one file, or the folder of one split"
        )
    if not fitting:
        raise InputError(f"{source}: no files of the split '{split}'; splits found: {listed}")
    if len(fitting) > 1:
        raise InputError(
            f"{source}: no split is called '{split}', and it may be any of "
            f"{', '.join(sorted(fitting))}; name one of them. Splits found: {listed}"
        )
    return next(iter(fitting))


def split_name(relative: Path) -> str | None:
    """The split that a file belongs to, by its name or its folders'; None where none says so.

    `train_sft-00000-of-00001-a1b2.parquet` and `train_sft/0.parquet` are of `train_sft`.
    """
    for part in (_stem(relative.name), *reversed(relative.parts[:-1])):
        shards = _SHARD.sub("", part)
        name = _NUMBER.sub("", shards) or shards
        if any(word in _KINDS for word in _words(name)):
            return name
    return None


def _saved_name(path: Path) -> str | None:
    """The split that `save_to_disk` of `datasets` wrote down beside the rows."""
    try:
        state = json.loads((path.parent / "state.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = state.get("_split") if isinstance(state, dict) and path.suffix == ".arrow" else None
    return name if isinstance(name, str) else None


def _stem(name: str) -> str:
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return name.rpartition(".")[0] or name


def _words(name: str) -> list[str]:
    return [_KINDS.get(word, word) for word in re.split(r"[^a-z]+", name.lower())]


def _fitting(names: set[str], split: str) -> set[str]:
    if split in names:
        return {split}
    words = _words(split)
    same = {name for name in names if _words(name) == words}
    if same:
        return same
    return {name for name in names if len(words) == 1 and words[0] in _words(name)}


def _refuse_configurations(source: Path, paths: list[Path]) -> None:
    """Refuse files that are the same shard of the same split in two folders.

    These are two configurations of one data set, such as GSM8K's `main` and `socratic`.
    """
    folders: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path.name)
        if _SHARD.search(stem) is None:
            continue
        shard = re.sub(r"(-of-\d{5})-[0-9a-zA-Z]+$", r"\1", stem)
        other = folders.setdefault(shard, path.parent)
        if other != path.parent:
            raise InputError(
                f"{source}: {shard} stands in {other} and in {path.parent}, two configurations of "
                "a data set; import one of these folders"
            )
