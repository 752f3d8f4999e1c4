"""A user's project under git and DVC: what `tspin init` makes, on a little data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests import warm

__all__ = ["Project"]

_BIN = Path(sys.executable).parent
_ENVIRONMENT = {
    "SHELL": "/bin/sh",
    "OMP_NUM_THREADS": "1",
    "DVC_NO_ANALYTICS": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}
SMALL = {
    "iterations": 2,
    "generate": {"max_new_tokens": 16},
    "train": {"learning_rate": 1e-4, "global_batch_size": 4, "beta": 0.1},
    "gate": {"metric": "nll_per_token", "direction": "min"},
}


class Project:
    """A folder with commands that must succeed."""

    tspin = _BIN
    """The folder of the command."""

    def __init__(self, folder: Path, *, forked: bool = True) -> None:
        """Make it: 12 annotated records and 4 held-out ones, tracked by DVC.

        Args:
            folder: Of the project.
            forked: Whether its commands are forked (`tests.warm`) and no new interpreters.
        """
        self.folder = folder
        if forked:
            self.tspin = warm.commands()
        self.run("tspin", "init", str(folder), cwd=folder.parent)
        for name, count in (("annotated", 12), ("heldout", 4)):
            self.cut(name, count)
        self.change(**SMALL)
        self.run("tspin", "dvc", "sync")
        self.run("git", "init", "-q", "-b", "main")
        self.run("dvc", "init", "-q")
        self.run(
            "dvc", "add", "-q", "sample/annotated.jsonl", "sample/heldout.jsonl", "sample/base"
        )
        self.commit("begin")

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """What a command prints, on both outputs."""
        done = self.popen(*command, cwd=cwd, **environment)
        printed = done.communicate()[0]
        assert done.returncode == 0, printed
        return str(printed)

    def popen(
        self, *command: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """A command on its way."""
        path = f"{self.tspin}:{_BIN}:{os.environ['PATH']}"
        return subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env=os.environ | _ENVIRONMENT | {"PATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def repro(self, *options: str) -> list[str]:
        """The stages that `dvc repro` ran, in order; not those from the run cache."""
        return stages_run(self.run("dvc", "repro", *options))

    def cut(self, name: str, count: int, first: int = 0) -> None:
        """Keep only some records of the sample."""
        path = self.folder / f"sample/{name}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[first : first + count]))

    def change(self, **sections: Any) -> None:
        """Change values of params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for name, new in sections.items():
            known = values[name]
            values[name] = known | new if isinstance(known, dict) and name != "gate" else new
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    @contextmanager
    def changed(self, **sections: Any) -> Iterator[None]:
        """Change values for the block."""
        path = self.folder / "params.yaml"
        before = path.read_bytes()
        self.change(**sections)
        try:
            yield
        finally:
            path.write_bytes(before)

    def commit(self, message: str) -> None:
        """Commit everything that git sees."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)


def stages_run(printed: str) -> list[str]:
    """The stages that were run, by what DVC printed."""
    return re.findall(r"^Running stage '([^']+)'", printed, re.MULTILINE)
