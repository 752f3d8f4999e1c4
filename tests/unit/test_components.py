"""Components: the library only inside their bodies, and import_data run by kfp itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from kfp import local

from components import steps


def test_components_import_the_library_only_in_their_bodies() -> None:
    for path in Path(steps.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "tspin"], path


def test_imported_data_is_a_folder_with_the_file(tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    source = tmp_path / "annotated.jsonl"
    source.write_text('{"id": "1"}\n')
    data = steps.import_data(source=str(source)).outputs["data"]
    assert (Path(data.path) / "data.jsonl").read_bytes() == source.read_bytes()
    assert data.metadata["bytes"] == source.stat().st_size


def test_missing_data_fails_the_task(tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with pytest.raises(RuntimeError, match="import-data"):
        steps.import_data(source=str(tmp_path / "none.jsonl"))
