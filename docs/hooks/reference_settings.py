"""The page of settings: the schema of the run configuration, section by section."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from reference_text import as_code, docstring_text, table

from tspin.config import RunConfig

__all__ = ["sections", "settings_page"]

_HEAD = """# Configuration

One YAML file describes a run. [Run configuration](../guides/configuration.md) shows how it is
written, checked and overridden. This page lists every setting, made from the schema itself;
`tspin config schema` prints the same schema as JSON Schema, for editors.

A setting without a default must be given. `null` stands for "not set".

"""

_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def settings_page() -> str:
    """The settings at the top, then each section in the order of the schema."""
    schema = RunConfig.model_json_schema()
    models = {"RunConfig": schema, **schema["$defs"]}
    parts = [_HEAD]
    for name, model, optional in sections():
        title = name or "At the top"
        note = "\n\nThe section may be left out, or be `null`." if optional else ""
        parts.append(f"## {title}\n\n{_paragraph(model)}{note}\n\n")
        parts.append(_table(name, model, models[model.__name__]["properties"]))
        parts.append("\n")
    return "".join(parts)


def sections(
    model: type[BaseModel] = RunConfig, name: str = "", optional: bool = False
) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """Name, model and whether it may be null, of the configuration and all sections in it."""
    yield name, model, optional
    for key, field in model.model_fields.items():
        if (below := _section_of(field)) is not None:
            nullable = type(None) in get_args(field.annotation)
            yield from sections(below, f"{name}.{key}" if name else key, nullable)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _paragraph(model: type[BaseModel]) -> str:
    return docstring_text(model.__doc__)


def _table(section: str, model: type[BaseModel], properties: dict[str, Any]) -> str:
    rows = []
    for key, field in model.model_fields.items():
        below = _section_of(field)
        if below is not None:
            name = f"{section}.{key}" if section else key
            default = "required" if field.is_required() else ""
            if field.default is None:
                default = as_code("null")
            link = f"[section](#{name.replace('.', '')})"
            rows.append((as_code(key), link, default, docstring_text(below.__doc__)))
            continue
        default = (
            "required"
            if field.is_required()
            else as_code(_json(field.get_default(call_default_factory=True)))
        )
        meaning = (field.description or "").replace("None ", "`null` ")
        rows.append((as_code(key), _kind(properties[key]), default, meaning))
    return table(("setting", "value", "default", "meaning"), rows)


def _json(value: Any) -> str:
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_json, value))}]"
    return json.dumps(value)


def _kind(description: dict[str, Any]) -> str:
    """A JSON Schema of one value in a few words."""
    if "anyOf" in description:
        return " or ".join(_kind(kind) for kind in description["anyOf"])
    if "enum" in description:
        return ", ".join(as_code(str(choice)) for choice in description["enum"])
    if "const" in description:
        return as_code(str(description["const"]))
    kind = str(description.get("type", "any value"))
    if kind == "array":
        return f"list of {_kind(description['items'])}s"
    if kind == "object":
        values = description.get("additionalProperties")
        return f"mapping to {_kind(values)}" if isinstance(values, dict) else "mapping"
    if kind == "null":
        return as_code("null")
    limits = [
        f"{words} {description[key]:g}" for key, words in _LIMITS.items() if key in description
    ]
    return ", ".join([kind, *limits])
