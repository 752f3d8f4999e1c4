"""Components know the library only inside their bodies, and hold no logic."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tspin_components
from tspin_components.artifacts import run_address

FOLDER = Path(tspin_components.__file__).resolve().parent
# What the bodies call, and not a component itself: the folders that pass from pod to pod.
VOCABULARY = FOLDER / "artifacts.py"
FILES = sorted(set(FOLDER.glob("*.py")) - {VOCABULARY})
DOCKERFILE = FOLDER.parent / "Dockerfile"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_library_is_imported_only_in_bodies(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.split(".")[0] == "tspin"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_body_decides_nothing_but_about_inputs_that_may_be_missing(path: Path) -> None:
    tree = ast.parse(path.read_text())
    decisions = [n for n in ast.walk(tree) if isinstance(n, ast.If | ast.While | ast.Try)]
    assert not decisions


def test_every_image_that_runs_a_component_has_what_its_body_imports() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    named = {stage.split()[2]: stage for stage in stages[1:]}
    assert {
        f"COPY {name} {name}"
        for name in ("tspin", "cluster", "components", "pipelines", "trainjob")
    } <= {*named["package"].splitlines()}
    images = {name: stage for name, stage in named.items() if "\nENTRYPOINT" in stage}
    assert set(images) == {"cpu", "train", "evaluate", "generate"}
    assert not [name for name, stage in images.items() if "COPY --from=package " not in stage]


def test_a_run_is_named_so_that_its_page_is_found_or_else_by_its_name() -> None:
    assert run_address("team", "12-3", "a run/1") == "kfp://team/12-3/a%20run%2F1"
    assert run_address("", "12-3", "a run") == "a run"
