"""Following a run to its end: the states of its tasks as they change."""

from __future__ import annotations

import time
from collections.abc import Callable

from kfp import Client

from tspin.errors import TspinError
from tspin_pipelines.kubeflow.server import Server

__all__ = ["state_of", "watch"]

_DONE = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_LOST_POLLS = 20


def watch(
    server: Server,
    client: Client,
    run: str,
    *,
    say: Callable[[str], None],
    timeout: float | None = None,
    every: float = 5.0,
) -> None:
    """Return when a run has succeeded.

    A server that cannot be reached for a while is asked again: the run goes on without it.

    Args:
        server: Where it runs.
        client: Of that server.
        run: Its id.
        say: Gets one line for each task that changes.
        timeout: Seconds until giving up; the run is left alone.
        every: Seconds between two looks.

    Raises:
        TspinError: it failed, was cancelled, or did not end in time.
    """
    end = None if timeout is None else time.monotonic() + timeout
    seen: dict[str, str] = {}
    lost = 0
    while True:
        try:
            with server.told():
                answer = client.get_run(run)
            lost = 0
        except TspinError as error:
            lost += 1
            if lost == _LOST_POLLS:
                raise
            say(f"asking again: {error}")
            answer = None
        if answer is not None:
            _tell(answer, seen, say)
            if answer.state in _DONE:
                return _end(run, answer)
        if end is not None and time.monotonic() > end:
            raise TspinError(f"run {run} did not end within {timeout:g} s; it goes on")
        time.sleep(every)


def state_of(server: Server, client: Client, run: str) -> str:
    """The state of a run, as the server names it.

    Args:
        server: Where it runs.
        client: Of that server.
        run: Its id.

    Raises:
        InputError: there is no such run.
        TspinError: the server cannot be reached, or refuses the caller.
    """
    with server.told():
        answer = client.get_run(run)
    return str(answer.state or "PENDING")


def _tell(answer: object, seen: dict[str, str], say: Callable[[str], None]) -> None:
    details = getattr(answer, "run_details", None)
    for task in getattr(details, "task_details", None) or ():
        state = task.state or "PENDING"
        if seen.get(task.task_id) != state:
            seen[task.task_id] = state
            say(f"{task.display_name}: {state.lower()}")


def _end(run: str, answer: object) -> None:
    state = getattr(answer, "state", "")
    if state == "SUCCEEDED":
        return
    error = getattr(answer, "error", None)
    reason = f": {error.message}" if error is not None and error.message else ""
    raise TspinError(f"run {run} {state.lower()}{reason}")
