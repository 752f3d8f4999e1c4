"""What other installed packages add by entry points: the library imports none of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from tspin.errors import InputError

__all__ = ["COMMANDS", "DOCTORS", "PLACES", "PROJECTS", "command_groups", "load_plugin"]

log = logging.getLogger(__name__)

COMMANDS = "tspin.commands"
"""Groups of commands: each a `typer.Typer`, under the name of its entry point."""
DOCTORS = "tspin.doctor"
"""What `tspin doctor` looks at besides this machine: each a function that returns checks."""
PLACES = "tspin.places"
"""Where `tspin plan` takes a run to compute: each a function of a name that returns places."""
PROJECTS = "tspin.projects"
"""What `tspin init` adds to a project: each a function of its folder and of an option's value."""


def load_plugin(group: str, name: str) -> Any:
    """What an installed package offers under a name.

    Args:
        group: Of entry points, one of the above.
        name: Of the entry point.

    Raises:
        InputError: no package offers it, or the one that does cannot be imported.
    """
    points = entry_points(group=group, name=name)
    if not points:
        raise InputError(
            f"no installed package offers '{name}' to tspin (entry points {group}); install it: "
            "pip install 'tspin[pipelines]'"
        )
    point = next(iter(points))
    try:
        return point.load()
    except Exception as error:
        raise InputError(_broken(point, error)) from error


def command_groups(reserved: set[str]) -> Iterator[tuple[str, typer.Typer]]:
    """Every group of commands that works, in the order of the names.

    Another package's fault must not take away this package's commands: a group that cannot be
    loaded is named in a warning, and left out.

    Args:
        reserved: Names that no group may have.
    """
    for point in sorted(entry_points(group=COMMANDS), key=lambda point: point.name):
        try:
            if point.name in reserved:
                raise ValueError(f"tspin has commands of the name '{point.name}'")
            commands = point.load()
            if not isinstance(commands, typer.Typer):
                raise TypeError(f"{point.value} is no typer.Typer")
            typer.main.get_group(commands)  # Here, where a fault in it can still be told apart.
        except (Exception, SystemExit) as error:  # noqa: BLE001  (another package's, of any kind)
            log.warning("tspin: %s; its commands are missing", _broken(point, error))
            continue
        reserved = reserved | {point.name}
        yield point.name, commands


def _broken(point: EntryPoint, error: BaseException) -> str:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    return f"plugin '{point.name}' of {package} does not load: {type(error).__name__}: {error}"
