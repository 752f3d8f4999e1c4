"""`dvc repro` in a fresh clone of this repository, with no remote: the demo as stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dvc.project import Project, stages_run

pytestmark = pytest.mark.dvc

ROOT = Path(__file__).parents[2]


def test_a_fresh_clone_makes_its_data_and_model_first(tmp_path: Path) -> None:
    clone = Project.__new__(Project)
    clone.folder = tmp_path / "clone"
    clone.run("git", "clone", "-q", str(ROOT), str(clone.folder), cwd=tmp_path)
    clone.change(generate={"max_new_tokens": 8})
    printed = clone.run("dvc", "repro", "triplets@0", PYTHONPATH=str(clone.folder))
    assert stages_run(printed) == ["demo", "proto", "triplets@0"]
    assert (clone.folder / "build/demo/base/model.safetensors").is_file()
    triplets = (clone.folder / "runs/dvc/iter-0/triplets.jsonl").read_bytes().splitlines()
    assert 0 < len(triplets) <= 1024
    assert clone.repro("triplets@0") == []
    changed = clone.run("git", "status", "--porcelain").splitlines()
    assert sorted(changed) == [" M params.yaml", "?? dvc.lock"]
