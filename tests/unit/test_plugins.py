"""Packages that add commands: one that is broken takes nothing else away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tspin.errors import InputError
from tspin.plugins import COMMANDS, PROJECTS, command_groups, load_plugin

WORKS = "import typer\napp = typer.Typer()\n\n@app.command()\ndef do() -> None: ...\n"


def _install(folder: Path, name: str, text: str, group: str = COMMANDS) -> None:
    """A package that offers `name:app`, as an installer leaves it."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:app\n")
    (folder / f"{name}.py").write_text(text)


def test_a_broken_plugin_is_named_and_all_other_commands_are_there(tmp_path: Path) -> None:
    _install(tmp_path, "crashing", "raise OSError('no driver')")
    _install(tmp_path, "working", WORKS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tspin", "--help"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    commands = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {"run", "pipeline", "working"} <= commands
    assert "crashing" not in commands
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(
        "WARNING tspin: plugin 'crashing' of crashing 1.2 does not load: OSError: no driver; "
        "its commands are missing\n"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import not_there", "No module named 'not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("app = 5", "TypeError: crashing:app is no typer.Typer"),
        (WORKS.replace("def do()", "def do(value: int | str)"), "AssertionError"),
    ],
)
def test_why_a_plugin_is_left_out(
    text: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    _install(tmp_path, "crashing", text)
    assert "crashing" not in dict(command_groups(reserved=set()))
    sys.modules.pop("crashing", None)
    assert reason in caplog.text


def test_a_plugin_takes_the_place_of_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    _install(tmp_path, "run", WORKS)
    assert "run" not in dict(command_groups(reserved={"run"}))
    assert "tspin has commands of the name 'run'" in caplog.text


def test_a_plugin_that_is_asked_for_says_what_to_install() -> None:
    with pytest.raises(InputError, match=r"offers 'slurm' to tspin .*pip install"):
        load_plugin(PROJECTS, "slurm")
