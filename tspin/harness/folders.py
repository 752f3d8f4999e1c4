"""Where tasks are defined: a folder of one's own, or among the harness's 14,000 files.

The harness parses all its files before it knows one task, which takes up to a minute. Here only
names are looked for, in a second, so that it need parse no more than the folders asked for.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tspin.errors import InputError
from tspin.files import atomic_folder, sha256_folder
from tspin.store.location import cache_folder

__all__ = ["TaskFolders", "plain_folder", "task_files_hash"]

_NAME = re.compile(r"""^["']?(?:task|group)["']?:[ \t]*["']?([\w.:+-]+)""", re.MULTILINE)

_TASK_FILES = ("*yaml", "*.py", "*.json", "*.jsonl", "*.csv", "*.parquet", "*.txt")
"""What decides the tasks of a folder; not the byte code that Python leaves there."""


def task_files_hash(folder: Path) -> str:
    """Hash of what decides the tasks of a folder."""
    return sha256_folder(folder, *_TASK_FILES)


class TaskFolders:
    """Folders of task definitions: one's own, whose names come first, and the harness's."""

    def __init__(self, own: Path | None) -> None:
        """Raises: InputError: there is no such folder."""
        if own is not None and not own.is_dir():
            raise InputError(
                f"evaluate.harness.task_folder: {own}: no such folder; expected one with the YAML "
                "files of tasks, as lm-evaluation-harness takes them"
            )
        self.own = own

    def of(self, names: Iterable[str]) -> list[Path]:
        """The folders that define tasks, groups and tags of these names; the own one last.

        A name that nothing defines is left out.
        """
        own = {} if self.own is None else _named_in(_read(self.own))
        folders: dict[Path, None] = {}
        for name in names:
            if name not in own:
                named = _harness_names().get(name)
                folders |= dict.fromkeys([named] if named else _tagged(name))
        return [*folders, *([] if self.own is None else [self.own])]

    def unknown(self, name: str, otherwise: str) -> InputError:
        """The error for a name that the harness does not know: it tells the nearest.

        Args:
            name: Of a task, group or tag.
            otherwise: What is wrong with it where one's own folder does define it.
        """
        own = {} if self.own is None else _named_in(_read(self.own))
        if name in own:
            return InputError(f"evaluate.tasks: {name!r} in {self.own} {otherwise}")
        known = {**own, **_harness_names()}
        known |= {"paper": Path(), "paper-quick": Path()}
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        where = "" if self.own is None else f", nor in {self.own}"
        return InputError(
            f"evaluate.tasks: lm-evaluation-harness has no task or group {name!r}{where}{hint}"
        )


def plain_folder(folder: Path) -> Path:
    """A folder of tasks under a path without `[`, `*` and `?`: links to its files, in the cache.

    The library `datasets` reads the whole path of a file of questions as a pattern, that of the
    folder included (datasets 5, data_files.resolve_pattern), and finds nothing where it has one.
    """
    if not glob.has_magic(str(folder)) or not folder.is_dir():
        return folder
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    plain = cache_folder() / "tasks" / digest
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    links = {
        path.relative_to(plain): path.readlink() for path in plain.rglob("*") if path.is_symlink()
    }
    if links != files:
        with atomic_folder(plain) as links_folder:
            for name, path in files.items():
                (links_folder / name).parent.mkdir(parents=True, exist_ok=True)
                (links_folder / name).symlink_to(path)
    return plain


@cache
def _harness() -> Path:
    spec = find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("evaluate.tasks needs lm-eval: pip install 'tspin[eval]'")
    return Path(spec.submodule_search_locations[0]) / "tasks"


@cache
def _texts() -> dict[Path, str]:
    return _read(_harness())


def _read(folder: Path) -> dict[Path, str]:
    return {
        path: path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.rglob("*.yaml"))
    }


@cache
def _harness_names() -> dict[str, Path]:
    return _named_in(_texts())


def _named_in(texts: dict[Path, str]) -> dict[str, Path]:
    return {name: path.parent for path, text in texts.items() for name in _NAME.findall(text)}


def _tagged(name: str) -> list[Path]:
    """Folders where a tag of this name may be; the harness itself knows whether it is one."""
    line = re.compile(
        rf"""^(?:["']?tag["']?:|[ \t]*-)[ \t]*["']?{re.escape(name)}["']?[ \t]*$""", re.MULTILINE
    )
    return [path.parent for path, text in _texts().items() if "tag" in text and line.search(text)]
