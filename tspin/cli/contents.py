"""What commands there are; each is imported when it is called, not when others are."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tspin.plugins import command_groups

__all__ = ["CONTENTS", "Contents"]

CONTENTS: dict[str, tuple[str, str]] = {
    "run": (
        "run.run",
        "Generate, build triplets, train, evaluate, iteration after iteration; or continue.",
    ),
    "report": ("run.report", "Write the run's report, one HTML page that needs no network."),
    "finish": (
        "run.finish",
        "Name the best of iterations that were made step by step, and write curves and report.",
    ),
    "export": (
        "run.export",
        "Copy a run's model to a folder, with a model card; to the Hub or an image, if asked.",
    ),
    "plan": (
        "plan.plan",
        "Say what a run will take: tokens, operations, hours, bytes, memory, money.",
    ),
    "compare": (
        "compare.compare",
        "Methods side by side on the same model and data, with what each costs; or continue.",
    ),
    "generate": (
        "steps.generate",
        "Sample responses to every prompt; started again, it continues.",
    ),
    "merge-responses": (
        "steps.merge_responses",
        "Put the shards of a generation together, as if there had been one.",
    ),
    "build-triplets": (
        "steps.build_triplets",
        "Join annotated, synthetic and proto-synthetic responses by id.",
    ),
    "train": (
        "steps.train",
        "Train the next policy from the current one; started again, it resumes.",
    ),
    "evaluate": (
        "steps.evaluate",
        "Measure a model on held-out records, and on tasks of lm-evaluation-harness.",
    ),
    "merge-evaluations": (
        "steps.merge_evaluations",
        "Put the shards of an evaluation together, as if there had been one.",
    ),
    "fetch-tasks": (
        "steps.fetch_tasks",
        "Download what tasks of lm-evaluation-harness need, for a machine without network.",
    ),
    "promote": (
        "registry.promote",
        "Make a model the champion if it beats the champion; exit code 3 if it does not.",
    ),
    "rollback": ("registry.rollback", "Make an earlier champion the champion again."),
    "retrain": (
        "registry.retrain",
        "Check what was pushed, run it, report, promote; exit code 3 if the gate refuses.",
    ),
    "init": (
        "project.init",
        "Make a project folder that works as it is: configuration, sample data, small model.",
    ),
    "doctor": (
        "project.doctor",
        "Say what is installed, what this machine has, and what would not work.",
    ),
    "clean": (
        "project.clean",
        "Delete old runs, and checkpoints of trainings that were given up.",
    ),
    "data": ("data.app", "Annotated data: import, validate, split."),
    "config": ("config.app", "The run configuration."),
    "dvc": ("project.app", "Stages of `dvc repro`."),
    "registry": ("registry.app", "Models that were promoted."),
}
"""By name where a command or a group of them stands in this package, and its first sentence."""


class Contents(TyperGroup):
    """All commands, those of plugins last."""

    def __init__(self, **attributes: Any) -> None:
        """As Typer makes it; what it has registered is not looked at."""
        super().__init__(**attributes)
        self.commands = self._commands = _Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As in every help page, without importing what is only to be named."""
        added = {name: group.help or "" for name, group in self._commands.added.items()}
        named = {name: sentence for name, (_, sentence) in CONTENTS.items()} | added
        with formatter.section("Commands"):
            formatter.write_dl([*named.items()])


class _Commands(MutableMapping[str, Any]):
    """Commands and groups by name, as Typer makes them of functions; made when looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    @cached_property
    def added(self) -> dict[str, Any]:
        """What plugins add."""
        groups = command_groups(reserved={*CONTENTS})
        return {name: typer.main.get_group(group) for name, group in groups}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(name) if name in CONTENTS else self.added[name]
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("no command is taken away")

    def __iter__(self) -> Iterator[str]:
        return iter([*CONTENTS, *self.added])

    def __len__(self) -> int:
        return len(CONTENTS) + len(self.added)


def _command(name: str) -> Any:
    module, attribute = CONTENTS[name][0].split(".")
    found = getattr(import_module(f"tspin.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(found)
    return typer.main.get_command(alone)
