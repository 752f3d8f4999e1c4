"""The list of commands: true, and had without importing them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from tspin.cli.contents import CONTENTS
from tspin.cli.main import app

COMMANDS = typer.main.get_group(app).commands


@pytest.mark.parametrize("name", CONTENTS)
def test_each_is_named_with_its_own_first_sentence(name: str) -> None:
    paragraph = (COMMANDS[name].help or "").split("\n\n")[0]
    assert CONTENTS[name][1] == " ".join(paragraph.split())


def test_a_command_that_is_not_there_is_refused_with_the_likely_one() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tspin", "rnu"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "No such command 'rnu'. Did you mean 'run'?" in result.stderr


def test_the_list_of_commands_imports_none_of_them() -> None:
    script = (
        "import sys\n"
        "from tspin.cli import main\n"
        "sys.argv = ['tspin', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    listed, modules = result.stdout, {*result.stderr.split()}
    assert all(f"\n  {name} " in listed for name in [*CONTENTS, "pipeline"])
    assert "tspin.cli.main" in modules
    assert not modules & {"pydantic", "yaml", "numpy", "torch", "kfp", "tspin.cli.run"}
