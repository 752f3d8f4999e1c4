"""Progress on a terminal and elsewhere."""

import io

from rich.console import Console

from tspin.progress.display import progress


def test_plain_progress_lines_off_a_terminal():
    shown = io.StringIO()
    console = Console(file=shown, width=40)
    with progress("generate", 4, done=1, console=console, seconds=0) as counted:
        counted.advance(1, tokens=50)
        counted.advance(2, tokens=50)
    first, last = shown.getvalue().splitlines()
    assert first.startswith("generate: 2/4 prompts, ")
    assert "tokens/s" in first
    assert first.endswith(" left")
    assert last.startswith("generate: 4/4 prompts, ")
    quiet = io.StringIO()
    with progress("x", 9, console=Console(file=quiet), seconds=3600) as counted:
        counted.advance(1)
    assert quiet.getvalue() == ""


def test_progress_bar_on_a_terminal():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with progress("generate", 4, console=console) as counted:
        counted.advance(4, tokens=50)
    assert "4/4" in shown.getvalue()
    assert "tokens/s" in shown.getvalue()


def test_a_label_is_no_markup():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with progress("evaluate, task a[/b] [red]c", 4, console=console) as counted:
        counted.advance(4)
    assert "evaluate, task a[/b] [red]c" in shown.getvalue()
