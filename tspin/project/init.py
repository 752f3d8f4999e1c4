"""A new project folder that works as it is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from tspin.demo.demo import write_demo
from tspin.files import atomic_folder
from tspin.outputs import check_output, never_ours
from tspin.project import sync_stages

__all__ = ["init_project"]

_FILES = {"params.yaml": "params.yaml", "README.md": "README.md", "gitignore": ".gitignore"}


def init_project(folder: Path, add: Callable[[Path], None] | None = None) -> None:
    """Make a project folder with a configuration, a small model and a sample of data.

    Args:
        folder: A new one.
        add: Is called with the folder before it stands under its name, and may write more into it.

    Raises:
        InputError: the folder exists and is not empty.
    """
    check_output(folder, never_ours, folder=True)
    templates = files("tspin.project") / "template"
    with atomic_folder(folder) as new:
        for source, name in _FILES.items():
            (new / name).write_text((templates / source).read_text())
        write_demo(new / "sample")
        sync_stages(new)
        if add is not None:
            add(new)
