"""The README shows the tree as it is, and leads nowhere that is not there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MODULES = sorted((ROOT / "tspin").rglob("*.py"))
PACKAGES = re.compile(r"(<!-- packages:.*?-->\n\n).*?(\n?<!-- /packages -->)", re.DOTALL)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def _first_sentence(path: Path) -> str:
    """Up to the first full stop that ends one; `1.0` and `dvc.yaml` do not."""
    paragraph = " ".join(_docstring(path).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]


def _tree() -> str:
    """A line for every package, and for every module that stands beside them."""
    package = ROOT / "tspin"
    packages = {path.parent: path for path in package.glob("*/__init__.py")}
    modules = {path: path for path in package.glob("*.py") if not path.name.startswith("__")}
    named = {
        str(path.relative_to(ROOT)) + ("/" if path.is_dir() else ""): _first_sentence(file)
        for path, file in sorted((packages | modules).items())
        if path != package
    }
    width = max(map(len, named)) + 2
    return "".join(f"    {name:{width}}{sentence}\n" for name, sentence in named.items())


def _top_level() -> dict[str, str]:
    rows = re.findall(r"^    ([\w.]+/)  +(\S.*)$", README.read_text(), re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_begins_with_a_sentence_that_says_what_it_is(path: Path) -> None:
    assert re.match(r"\S.*[.:]", _docstring(path))


def test_the_tree_is_that_of_the_packages() -> None:
    text = README.read_text()
    now = PACKAGES.sub(lambda match: match[1] + _tree() + match[2], text)
    if os.environ.get("TSPIN_RECORD"):
        README.write_text(now)
    assert "tspin/selfplay.py" in now
    assert README.read_text() == now, "TSPIN_RECORD=1 pytest tests/unit/test_readme.py writes it"


def test_every_folder_at_the_top_is_named_and_is_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    paths = listed.stdout.splitlines()
    folders = {f"{path.split('/')[0]}/" for path in paths if "/" in path}
    assert {*_top_level()} == {folder for folder in folders if not folder.startswith(".")}


def test_it_is_one_page() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text())
    inside = [link for link in links if not link.startswith("https://")]
    assert len(inside) > 15
    assert [link for link in inside if not (ROOT / link).exists()] == []


def test_its_commands_are_there() -> None:
    text = README.read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake ([a-z][\w-]+)", text)
    assert len(targets) >= 4
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    from typer.main import get_command

    from tspin.cli.main import app

    commands = getattr(get_command(app), "commands")  # noqa: B009
    shown = re.findall(r"(?:^    |`)tspin ([a-z-]+)", text, re.MULTILINE)
    assert len(shown) >= 15
    assert {*shown} <= {*commands}


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs/assets").iterdir())
    assert len(pictures) >= 2
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
