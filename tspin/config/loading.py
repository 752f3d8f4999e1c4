"""From a YAML file and overrides to a checked configuration, with errors that name the line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tspin.config.run import RunConfig
from tspin.errors import InputError, located
from tspin.release import newer_format

__all__ = ["FORMAT", "config_differences", "load_config", "load_yaml", "resolved"]

Keys = tuple[str, ...]
Schema = TypeVar("Schema", bound=BaseModel)

OTHERS = "x-sections"
"""The list of sections that belong to other tools."""

FORMAT = 1
"""Of a run's configuration and of its folder: the last one that is read; none in a file means 1."""
_FORMAT = "format"
NOT_THE_RESULT = ("run_dir", "system")
"""Sections that say where and how the work is done, not what is computed."""


def load_config(
    path: Path | None, overrides: Sequence[str] = (), *, defaults: dict[str, Any] | None = None
) -> RunConfig:
    """Load a run configuration and apply `section.key=value` overrides (values are YAML).

    Args:
        path: The YAML file; None starts from `defaults` alone. Sections of other tools are let be
            where their names begin with `x-` or stand in the list `x-sections`.
        overrides: Applied in order over the file.
        defaults: What stands where there is no file.

    Raises:
        InputError: no such file, not YAML, an unknown key (with the nearest valid one), a value
            out of range; with file and line, or the override it stands in.
    """
    return load_yaml(RunConfig, path, overrides, defaults=defaults)


def load_yaml(
    schema: type[Schema],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: dict[str, Any] | None = None,
) -> Schema:
    """Load a YAML file of any schema, as `load_config` does for a run configuration.

    Args:
        schema: A pydantic model.
        path: The file; None starts from `defaults` alone.
        overrides: `section.key=value`, the last one counts.
        defaults: Below what the file says.

    Raises:
        InputError: as `load_config`.
    """
    values, lines = _read(path) if path else (defaults or {}, {})
    places = {keys: f"{path}:{line}" for keys, line in lines.items()}
    for override in overrides:
        keys, value = _parse_override(override)
        _put(values, keys, value, override)
        places |= {keys[:end]: f"--set {override}" for end in range(1, len(keys) + 1)}
    try:
        return schema.model_validate(_own(values, schema, places))
    except ValidationError as error:
        raise InputError(_explain(error, schema, path, places)) from None


def _own(
    values: dict[str, Any], schema: type[BaseModel], places: dict[Keys, str]
) -> dict[str, Any]:
    """Without the format, and the sections of others: under `x-`, or named by `x-sections`."""
    # config.json of a run folder is a configuration, too.
    own = {_FORMAT} if schema is RunConfig else set()
    if own and (newer := newer_format(values.get(_FORMAT), FORMAT)):
        raise InputError(f"{places.get((_FORMAT,), _FORMAT)}: {newer}")
    named = values.get(OTHERS) or []
    at = places.get((OTHERS,), OTHERS)
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError(f"{at}: '{OTHERS}' is {named!r}; expected a list of names of sections")
    for name in named:
        if name in schema.model_fields:
            raise InputError(f"{at}: '{OTHERS}' names '{name}', which is a setting of tspin's own")
    return {
        key: value
        for key, value in values.items()
        if not str(key).startswith("x-") and key not in {*own, *named}
    }


def resolved(config: RunConfig) -> dict[str, Any]:
    """The configuration with every default filled in, as JSON values."""
    return config.model_dump(mode="json")


def config_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`key: old -> new` for each setting that changes what is computed."""
    before, after = _flatten(old), _flatten(new)
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key.split(".")[0] not in NOT_THE_RESULT
    ]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _read(path: Path) -> tuple[dict[str, Any], dict[Keys, int]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a run configuration (YAML)")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise located(path, line, f"not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise located(path, None, f"not valid YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: expected sections such as 'model:' and 'data:', found {values!r}"
        )
    return values, _lines(path, root)


def _lines(path: Path, node: Any, prefix: Keys = ()) -> dict[Keys, int]:
    lines: dict[Keys, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            keys = (*prefix, str(key.value))
            line = key.start_mark.line + 1
            if keys in lines:  # YAML itself would silently take the second.
                first = lines[keys]
                raise located(path, line, f"'{'.'.join(keys)}' is given on line {first} already")
            lines[keys] = line
            lines |= _lines(path, value, keys)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            keys = (*prefix, str(index))
            lines[keys] = item.start_mark.line + 1
            lines |= _lines(path, item, keys)
    return lines


def _parse_override(override: str) -> tuple[Keys, Any]:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise InputError(f"--set {override}: expected section.key=value")
    try:
        return tuple(name.split(".")), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not valid YAML: {error}") from None


def _put(values: dict[str, Any], keys: Keys, value: Any, override: str) -> None:
    for key in keys[:-1]:
        section = values.get(key)
        if section is None:
            section = values[key] = {}
        if not isinstance(section, dict):
            raise InputError(f"--set {override}: '{key}' is a value, not a section")
        values = section
    values[keys[-1]] = value


def _explain(
    error: ValidationError, schema: type[BaseModel], path: Path | None, places: dict[Keys, str]
) -> str:
    messages = []
    for problem in error.errors(include_url=False):
        keys = tuple(str(part) for part in problem["loc"])
        name = ".".join(keys) or "configuration"
        told = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = f"unknown key '{name}'{_nearest(schema, keys)}"
            if len(keys) == 1:
                text += f" (a section of another tool: name it 'x-...', or in the list {OTHERS})"
        elif problem["type"] == "missing":
            text = f"'{name}' is missing"
        elif not keys or isinstance(problem["input"], dict):
            text = told
        else:
            text = f"'{name}' is {problem['input']!r}: {told}"
        messages.append(f"{_place(keys, path, places)}: {text}")
    return "\n".join(messages)


def _place(keys: Keys, path: Path | None, places: dict[Keys, str]) -> str:
    while keys and keys not in places:
        keys = keys[:-1]
    return places.get(keys, str(path or "configuration"))


def _nearest(schema: type[BaseModel], keys: Keys) -> str:
    for key in keys[:-1]:
        if key in schema.model_fields:  # a number or a free key stands inside a list or mapping
            schema = _model_in(schema.model_fields[key].annotation) or schema
    names = list(schema.model_fields)
    close = difflib.get_close_matches(keys[-1], names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; valid keys: {', '.join(names)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
