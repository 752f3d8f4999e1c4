"""What is imported from others is public: a private module may go with any of their releases."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("tspin", "cluster", "components", "pipelines", "trainjob")


def imported(path: Path) -> set[str]:
    """Modules that a file imports, with the names it takes from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_private_module_is_imported() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    private = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported(path)
        if any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
    ]
    assert private == []
