"""Self-contained HTML pages from templates: the project's style sheet and scripts are inside."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """A page from one of the package's templates; text in `values` is escaped.

    The page needs no network, and a content security policy lets no script run but its own two.

    Args:
        template: The template's file name.
        values: What it shows.
    """
    environment = Environment(
        loader=PackageLoader("tspin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values, **_own_text())


def _own_text() -> dict[str, Markup]:
    """The style sheet, the two scripts and their hashes: all that goes in unescaped."""
    templates = resources.files("tspin.report") / "templates"
    css, script = (
        (templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    scripts = {"plotly": get_plotlyjs(), "script": script}
    allowed = " ".join(_policy_source(text) for text in scripts.values())
    unescaped = {"css": css, "script_sources": allowed, **scripts}
    return {name: Markup(text) for name, text in unescaped.items()}  # noqa: S704


def _policy_source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
