"""Packages, files and functions stay small, and each says what it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tspin", "cluster", "components", "pipelines", "trainjob", "study")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PACKAGES = sorted({path.parent for path in FILES})
MAX_MODULES, MAX_LINES, MAX_FUNCTION = 12, 300, 50
# One component a file, and one for each step of a run; Typer's options carry their own help.
LARGER = {"components": 19, "study": 16}
COMMANDS = (
    "tspin/cli/",
    "pipelines/commands.py",
    "pipelines/profiles/commands.py",
    "pipelines/serving/commands.py",
    "components/",
)
FRAMEWORK = re.compile(r"on_[a-z_]+|forward|backward|main")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    def walk(
        node: ast.AST, place: str, public: bool
    ) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            open_ = public and not child.name.startswith("_")
            if isinstance(child, ast.FunctionDef):
                yield f"{place}{child.name}", child, open_
            else:
                yield from walk(child, f"{place}{child.name}.", open_)

    yield from walk(ast.parse(path.read_text()), "", True)


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_is_small_and_says_what_it_is(package: Path) -> None:
    modules = [path for path in package.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(modules) <= LARGER.get(name_of(package), MAX_MODULES)
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_and_its_functions_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MAX_LINES
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node, _ in functions(path)}
    if not name_of(path).startswith("components/"):
        assert {name: lines for name, lines in lengths.items() if lines >= MAX_FUNCTION} == {}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_public_function_says_what_its_arguments_are(path: Path) -> None:
    if name_of(path).startswith(COMMANDS):
        return
    silent = []
    for name, node, public in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(argument.arg not in ("self", "cls") for argument in arguments)
        told = "Args:" in (ast.get_docstring(node) or "")
        if public and count >= 3 and not told and not FRAMEWORK.fullmatch(node.name):
            silent.append(name)
    assert silent == []
