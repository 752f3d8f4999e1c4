"""Groups of commands from other packages: entry points of the group `tspin.commands`."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

__all__ = ["GROUP", "add_plugins"]

GROUP = "tspin.commands"


def add_plugins(app: typer.Typer) -> None:
    """Add every installed group of commands under the name of its entry point.

    This is how the library offers Kubeflow's commands without importing Kubeflow: each is a
    `typer.Typer` that imports what it needs when it is called.

    Args:
        app: Is given the groups, in the order of their names.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        app.add_typer(point.load(), name=point.name)
