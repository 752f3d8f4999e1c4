"""Where the work of a process is, for its log lines and for whoever asks it: run, iteration, step.

A command that answers questions about its work (`tspin.monitoring`) names a folder in the
environment, which the processes it starts inherit. Each then keeps a small note there of what it
is doing. Without that folder a note costs one look at the environment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "NOTES",
    "RUN_ID",
    "at_work",
    "mark_error",
    "named_run",
    "publish",
    "read_notes",
    "run_id",
    "where",
    "where_failed",
]

RUN_ID = "TSPIN_RUN_ID"
"""What log lines and metrics call the run; a command sets it from `run_dir` where nobody has."""
NOTES = "TSPIN_STATUS_DIR"
"""Folder of the notes, of this machine and not of the run: it is gone with the command."""
_WHERE = "tspin_where"


class _State:
    """Where in a run the work is, and what was published of it.

    No dataclass: to make one takes as long as the rest of this module, and `tspin --help` loads it.
    """

    def __init__(self) -> None:
        self.place: tuple[str | None, int | None, bool] = None, None, True
        """Step, which is None between two steps; iteration; whether notes are kept of it."""
        self.values: dict[str, Any] = {}
        self.lock = threading.Lock()
        """The clock of a step writes from a thread of its own."""


_state = _State()


def run_id() -> str:
    """What the run is called; empty outside of a command."""
    return os.environ.get(RUN_ID, "")


@contextmanager
def named_run(run_dir: str) -> Iterator[None]:
    """Give the run its name inside the block, unless whoever started this command has given one.

    Args:
        run_dir: A folder or a URI, whose last part it is.
    """
    if os.environ.get(RUN_ID):
        yield
        return
    place = run_dir.rstrip("/")
    os.environ[RUN_ID] = place.rpartition("/")[2] if "://" in place else Path(place).resolve().name
    try:
        yield
    except BaseException as error:
        mark_error(error)
        raise
    finally:
        os.environ.pop(RUN_ID, None)


def where() -> dict[str, Any]:
    """Where the work of this process is now: run, iteration and step."""
    step, iteration, _ = _state.place
    return {"run": run_id(), "iteration": iteration, "step": step}


def mark_error(error: BaseException) -> None:
    """Note on an error where the work was, unless that is noted: who tells of it is elsewhere."""
    vars(error).setdefault(_WHERE, where())


def where_failed(error: BaseException) -> dict[str, Any]:
    """Where the work was that ended with an error; nothing of one that came before any work."""
    noted: dict[str, Any] = vars(error).get(_WHERE, {})
    return noted


@contextmanager
def at_work(step: str | None, iteration: int | None, *, told: bool = True) -> Iterator[None]:
    """Say where the work is while the block does it; what was published of it ends with it.

    Args:
        step: 'generate', 'train', 'evaluate'; None of what lies between two steps.
        iteration: From 0; -1 is the initial policy.
        told: False where another process tells of this very work.
    """
    before = _state.place, _state.values
    _state.place, _state.values = (step, iteration, told), {}
    publish()
    try:
        yield
    except BaseException as error:
        mark_error(error)
        raise
    finally:
        with _state.lock:
            note = _note_path()
            if note is not None:
                with suppress(OSError):
                    note.unlink(missing_ok=True)
            _state.place, _state.values = before


def publish(**values: Any) -> None:
    """Keep values of the step that runs, besides those published before, for whoever asks.

    Args:
        values: As JSON takes them, by name.
    """
    with _state.lock:
        path = _note_path()
        if path is None:
            return
        _state.values |= values
        import json

        note = {**where(), "written": time.time(), **_state.values}
        temporary = path.with_suffix(".partial")
        with suppress(OSError):  # No step fails because nobody can be told of it.
            temporary.write_text(json.dumps(note, default=float), encoding="utf-8")
            temporary.replace(path)


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """The notes of all processes, the oldest first; each with run, step, iteration and written."""
    import json

    notes = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):  # A step that ends takes its note away.
            notes.append(json.loads(path.read_bytes()))
    return sorted(notes, key=lambda note: float(note["written"]))


def _note_path() -> Path | None:
    folder, (step, _, told) = os.environ.get(NOTES), _state.place
    if folder is None or step is None or not told:
        return None
    return Path(folder, f"{os.getpid()}-{step}.json")
