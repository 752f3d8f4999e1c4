import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MODULES = sorted(path for path in (ROOT / "tspin").rglob("*.py") if path.name != "__main__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_its_line_in_the_tree(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a module begins with a sentence that says what it is"
    name, first = str(path.relative_to(ROOT)), docstring.splitlines()[0]
    assert any(line.split(maxsplit=1) == [name, first] for line in README.splitlines())


def test_the_tree_names_no_module_that_is_gone() -> None:
    names = {line.split()[0] for line in README.splitlines() if line.startswith("    tspin/")}
    gone = {name for name in names if not (ROOT / name).exists()}
    assert not gone
