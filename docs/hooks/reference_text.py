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


def docstring_of(package: str, name: str) -> str:
    """The docstring of a function or method, read from its file and not imported.

    Args:
        package: Below `tspin`, such as `evaluate`. Modules of many packages load torch.
        name: Of the function, with its class in front of it: `Speed.drain`.

    Raises:
        LookupError: no module of the package has such a function with a docstring.
    """
    for path in sorted((_PACKAGE / package).glob("*.py")):
        node: ast.AST | None = ast.parse(path.read_text(encoding="utf-8"))
        for part in name.split("."):
            node = _child(node, part) if node is not None else None
        if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            return docstring
    raise LookupError(f"tspin.{package} has no function {name} with a docstring")


def _child(node: ast.AST, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    definitions = (ast.FunctionDef, ast.ClassDef)
    return next(
        (
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, definitions) and child.name == name
        ),
        None,
    )
