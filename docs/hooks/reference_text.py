"""What the generated pages have in common: tables, and the text of docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import tspin

__all__ = ["as_code", "docstring_of", "docstring_text", "table"]

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Example|Examples):\s*$", re.MULTILINE)
_PACKAGE = Path(tspin.__file__).parent


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; cells stay on one line, and a bar in a cell does not end it."""
    lines = [[*head], ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def as_code(text: str) -> str:
    """Text in the font of code; nothing for an empty one."""
    return f"`{text}`" if text else ""


def docstring_text(docstring: str | None) -> str:
    """The prose of a docstring, without its Google sections."""
    return _SECTION.split(inspect.cleandoc(docstring or ""), maxsplit=1)[0].strip()


def docstring_of(module: str, name: str) -> str:
    """The docstring of a function or method, read from its file and not imported.

    Args:
        module: Below `tspin`, such as `evaluate/metrics.py`. Many of them load torch.
        name: Of the function, with its class in front of it: `Speed.drain`.

    Raises:
        LookupError: there is no such function, or it has no docstring.
    """
    node: ast.AST = ast.parse((_PACKAGE / module).read_text(encoding="utf-8"))
    for part in name.split("."):
        node = next(
            (
                child
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == part
            ),
            ast.Module([], []),
        )
    if not isinstance(node, ast.FunctionDef) or not ast.get_docstring(node):
        raise LookupError(f"{module} has no function {name} with a docstring")
    return ast.get_docstring(node) or ""
