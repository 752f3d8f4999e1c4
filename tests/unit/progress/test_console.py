"""Where progress may move the cursor: on a terminal, whatever asks for colours."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
from tspin.progress.display import progress
with progress("generate", 4) as counted:
    counted.advance(4)
"""


def printed(**variables: str) -> str:
    """What standard error gets where it is a pipe."""
    environment = os.environ | variables
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_lines_are_plain_off_a_terminal_whatever_asks_for_colours(variable: str) -> None:
    assert printed(**{variable: "1"}) == "generate: 4/4 prompts\n"


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    command = [sys.executable, "-c", PROGRAM]
    subprocess.run(command, env=environment, stderr=theirs, check=True)
    os.close(theirs)
    assert b"\x1b[" in os.read(ours, 65536)
    os.close(ours)
