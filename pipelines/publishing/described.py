"""README.md and metadata.yaml beside a component, as catalogues of components ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docstring_parser
import yaml
from jinja2 import Environment, StrictUndefined

__all__ = ["metadata_of", "readme_of"]

_TEMPLATE = Path(__file__).parent / "template" / "README.md.jinja"


@dataclass(frozen=True)
class _Port:
    name: str
    type: str
    about: str
    default: str = ""


def readme_of(name: str, component: Any, image: str) -> str:
    """What a component does, with its inputs and outputs.

    Args:
        name: Of the component.
        component: As `kfp.dsl.component` makes it; its docstring says what things are.
        image: That it runs in.
    """
    spec, written = component.component_spec, docstring_parser.parse(component.python_func.__doc__)
    told = {one.arg_name: one.description or "" for one in written.params}
    if written.returns is not None:
        told["Output"] = written.returns.description or ""
    about = [written.short_description, written.long_description]
    page = Environment(  # noqa: S701  (Markdown, from our own docstrings)
        undefined=StrictUndefined, keep_trailing_newline=True
    ).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return page.render(
        name=name,
        about="\n\n".join(part for part in about if part),
        image=image,
        inputs=_ports(spec.inputs or {}, told),
        outputs=_ports(spec.outputs or {}, told),
    )


def metadata_of(name: str, tags: Iterable[str], verified: datetime) -> str:
    """The metadata of a component, YAML: fields and order of kubeflow/pipelines-components.

    Args:
        name: Of the component.
        tags: That it is found by.
        verified: When it was last tried, as the catalogue wants to know.
    """
    values = {
        "name": name,
        "stability": "beta",
        "dependencies": {"kubeflow": [{"name": "Pipelines", "version": ">=2.17.0"}]},
        "tags": list(tags),
        "lastVerified": verified.replace(microsecond=0),
    }
    return yaml.safe_dump(values, sort_keys=False)


def _ports(ports: Mapping[str, Any], told: Mapping[str, str]) -> list[_Port]:
    return [
        _Port(
            name,
            str(port.type).partition("@")[0],
            " ".join((port.description or told.get(name, "")).split()).replace("|", "\\|"),
            _default(port),
        )
        for name, port in ports.items()
    ]


def _default(port: Any) -> str:
    if not getattr(port, "optional", False):
        return ""
    return "none" if port.default is None else f"`{port.default!r}`"
