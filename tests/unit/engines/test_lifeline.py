"""The lifeline: nothing that an engine started outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tspin.engines.lifeline import Lifeline

# An engine's process and one below it, as deaf to signals and hang-ups as they come.
CHILD = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.fork()
os.write(1, b"%d\\n" % os.getpid())  # At once: both write to one pipe.
signal.pause()
"""

# Starts an engine's process, says who it is, and waits to be killed.
PARENT = f"""
import os, signal, subprocess, sys
from tspin.engines.lifeline import Lifeline
line = Lifeline()
marked = dict(os.environ, MARK=line.mark)
subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=marked, start_new_session=True)
signal.pause()
"""


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Whether it runs; an ended one that nobody waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_processes_end_when_the_one_that_started_them_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        engine = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(runs, engine))
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(runs, engine)))


def test_cutting_it_ends_marked_processes_and_no_others() -> None:
    line = Lifeline()
    environments = [{**os.environ, "MARK": line.mark}, {**os.environ, "MARK": "tspin-other"}]
    marked, other = (
        subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE)
        for environment in environments
    )
    assert marked.stdout is not None
    assert other.stdout is not None
    below = [int(marked.stdout.readline()) for _ in range(2)]
    others = [int(other.stdout.readline()) for _ in range(2)]
    line.cut()
    assert not any(map(runs, below))
    assert marked.wait() == -signal.SIGKILL
    assert all(map(runs, others))
    for process in others:
        os.kill(process, signal.SIGKILL)
    other.wait()
    marked.stdout.close()
    other.stdout.close()


def test_a_title_that_was_written_over_the_environment_is_found() -> None:
    line = Lifeline()
    titled = subprocess.Popen(["/bin/sh", "-c", "read _", f"{line.mark}::EngineCore"], stdin=-1)
    line.cut()
    assert titled.wait() == -signal.SIGKILL
    assert titled.stdin is not None
    titled.stdin.close()
