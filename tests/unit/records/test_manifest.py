"""Manifests: when an output counts as current, and what those of earlier releases leave open."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest

import tspin.release
from tspin.errors import InputError
from tspin.records.arithmetic import begun_path
from tspin.records.manifest import (
    Manifest,
    is_current,
    journal_path,
    making_path,
    manifest_path,
    read_manifest,
    write_manifest,
)

PRECISION = {"dtype": "float32", "attn_implementation": None}


def written(
    path: Path, kind: Literal["responses", "metrics", "model"] = "responses", **parameters: Any
) -> Path:
    """An output whose manifest holds these parameters."""
    path.write_text("{}\n")
    write_manifest(path, Manifest(kind=kind, engine="transformers", parameters=parameters))
    return path


def current(path: Path, kind: Any = "responses", **parameters: Any) -> bool:
    """Whether that output is what these parameters ask for."""
    asked = Manifest(kind=kind, engine="transformers", parameters=parameters)
    return is_current(path, asked)


@pytest.mark.parametrize(
    "change", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"top_p": 0.5}]
)
def test_another_precision_or_attention_is_another_output(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    parameters = {"top_p": 1.0, **PRECISION}
    path = written(tmp_path / "synthetic.jsonl", **parameters)
    assert current(path, **parameters)
    assert not current(path, **parameters | change)


@pytest.mark.parametrize("recorded", [{}, {"dtype": "auto"}])
def test_a_manifest_that_names_no_precision_agrees_with_any(
    tmp_path: Path, recorded: dict[str, Any]
) -> None:
    """As earlier releases wrote them: a finished run is not computed again."""
    path = written(tmp_path / "metrics.json", "metrics", top_p=1.0, **recorded)
    assert current(path, "metrics", top_p=1.0, **PRECISION)
    assert current(path, "metrics", top_p=1.0, **PRECISION | {"dtype": "bfloat16"})
    assert not current(path, "metrics", top_p=0.5, **PRECISION)


def test_the_precision_of_a_training_was_always_recorded(tmp_path: Path) -> None:
    path = written(tmp_path / "weights", "model", dtype="auto")
    assert current(path, "model", dtype="auto")
    assert not current(path, "model", dtype="bfloat16")


def test_a_manifest_of_a_newer_release_says_what_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path / "synthetic.jsonl")
    values = json.loads(manifest_path(path).read_bytes())
    values |= {"lineage": "x", "versions": values["versions"] | {"tspin": "9.1.0"}}
    manifest_path(path).write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"has lineage, which .* written by tspin 9\.1\.0: update"):
        read_manifest(path)
    manifest_path(path).write_text(json.dumps({**values, "kind": "song"}))
    with pytest.raises(InputError, match="not a manifest"):
        read_manifest(path)


def head(folder: Path) -> str:
    """The commit that a repository is at."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository, which is the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TSPIN_GIT_COMMIT", raising=False)
    return folder


def commits(folder: Path) -> tuple[str | None, str | None]:
    """Those of the project and of tspin, in a manifest that is written now."""
    path = folder / "out.jsonl"
    path.write_text("{}")
    manifest = write_manifest(path, Manifest(kind="responses"))
    return manifest.git_commit, manifest.tspin_commit


def test_the_projects_commit_is_not_that_of_tspin(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Path(tspin.__file__).parents[1]
    own = head(checkout) if (checkout / ".git").exists() else None
    assert own != head(project)
    assert commits(project) == (head(project), own)
    monkeypatch.setenv("TSPIN_GIT_COMMIT", "0123abc")  # An image's.
    assert commits(project) == (head(project), "0123abc")


def test_a_package_in_the_projects_environment_has_no_commit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = project / ".venv/lib/python3/site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(tspin.release, "_SOURCE", installed)
    assert commits(project) == (head(project), None)


def test_a_mark_that_a_kill_left_beside_a_finished_output_goes(tmp_path: Path) -> None:
    output = tmp_path / "y.jsonl"
    output.write_text("y")
    manifest = write_manifest(output, Manifest(kind="responses"))
    marks = [making_path(output), begun_path(output), journal_path(output)]
    for mark in marks:
        mark.touch()
    assert is_current(output, manifest)
    assert not [mark for mark in marks if mark.exists()]
