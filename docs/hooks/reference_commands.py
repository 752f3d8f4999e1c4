"""The page of commands: the tree that Typer makes of `tspin.cli`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.main
from reference_text import as_code, docstring_text, table

from tspin.cli.main import app

__all__ = ["commands_page", "walk"]

_HEAD = """# Commands

Every path may be `s3://bucket/key` ([S3](../guides/s3.md)). Every command that takes `--config`
also takes `--set section.key=value`, as often as needed. The names are those of the
[configuration](configuration.md). [Exit codes](exit-codes.md) are the same for all commands.

"""


def commands_page() -> str:
    """An overview, then each command with its arguments and options."""
    commands = list(walk())
    overview = table(
        ("command", "does"),
        (
            (f"[`{name}`](#{name.replace(' ', '-')})", _paragraphs(command)[0])
            for name, command in commands
        ),
    )
    return _HEAD + overview + "".join(_section(name, command) for name, command in commands)


def walk() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of `tspin --help`."""
    yield from _below("tspin", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None or command.invoke_without_command:
        yield name, command
    if children is not None:
        for child, below in children.items():
            yield from _below(f"{name} {child}", below)


def _section(name: str, command: Any) -> str:
    kinds = get_type_hints(command.callback)
    parameters = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in parameters if each.param_type_name == "argument"]
    options = [each for each in parameters if each.param_type_name == "option"]
    usage = [name, *map(_metavar, arguments), *(["[OPTIONS]"] if options else [])]
    text = "\n\n".join(_paragraphs(command))
    parts = [f"\n## {name}\n\n{text}\n\n    {' '.join(usage)}\n"]
    if arguments:
        rows = [(as_code(_metavar(each)), each.help or "") for each in arguments]
        parts.append(table(("argument", "meaning"), rows))
    if options:
        rows_of_options = [
            (_flags(each), _value(each, kinds[each.name]), _default(each), _help(each))
            for each in options
        ]
        parts.append(table(("option", "value", "default", "meaning"), rows_of_options))
    return "\n".join(parts)


def _paragraphs(command: Any) -> list[str]:
    text = docstring_text(command.help)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _metavar(argument: Any) -> str:
    name = argument.name.upper()
    many = "..." if argument.nargs == -1 else ""
    return f"{name}{many}" if argument.required else f"[{name}]{many}"


def _flags(option: Any) -> str:
    flags = ", ".join(as_code(flag) for flag in option.opts)
    return f"{flags} / {as_code(option.secondary_opts[0])}" if option.secondary_opts else flags


def _value(option: Any, annotation: Any) -> str:
    """What stands behind the option, from the type of the function's parameter."""
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(as_code(str(choice)) for choice in get_args(annotation))
    if get_origin(kinds[0]) is Literal:
        return ", ".join(as_code(str(choice)) for choice in get_args(kinds[0]))
    if get_origin(kinds[0]) is list:
        return f"{_name(get_args(kinds[0])[0])}, repeatable"
    limits = [f"at least {option.min}"] if option.min is not None else []
    limits += [f"at most {option.max}"] if option.max is not None else []
    return ", ".join(filter(None, [_name(kinds[0]), *limits]))


def _name(kind: type) -> str:
    return {bool: "", str: "text", int: "integer", float: "number", Path: "path"}[kind]


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.secondary_opts:
        return as_code(option.opts[0] if option.default else option.secondary_opts[0])
    if option.default is None or option.default is False:
        return ""
    return as_code(str(option.default))


def _help(option: Any) -> str:
    text = str(option.help or "").replace("; may be repeated.", ".")
    variables = [option.envvar] if isinstance(option.envvar, str) else [*(option.envvar or ())]
    names = ", ".join(map(as_code, variables))
    return f"{text} Environment: {names}." if names else text
