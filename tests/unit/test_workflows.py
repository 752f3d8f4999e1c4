"""Workflows follow their schema, ask for few rights, and pin what they use by commit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITLAB = ROOT / ".gitlab-ci.yml"
STARTER = ROOT / "pipelines/project/template/retrain.yml"
"""What a project of `tspin init --kubeflow` gets, ..."""
OUTCOMES = [
    ROOT / ".github/workflows/retrain-outcome.yml",
    STARTER.with_name("retrain-outcome.yml"),
]
"""... and who looks later how its run ended."""
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yml")), STARTER, OUTCOMES[1]]


def _loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.mark.parametrize("path", [*WORKFLOWS, GITLAB], ids=lambda path: path.name)
def test_the_schema_holds(path: Path) -> None:
    schema = "vendor.gitlab-ci" if path == GITLAB else "vendor.github-workflows"
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_is_used_is_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"\buses: (\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.match(r" # v\d", comment), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_token_may_read_the_code_and_no_more(path: Path) -> None:
    assert _loaded(path)["permissions"] == {"contents": "read"}


def test_a_project_says_in_its_workflow_nothing_that_its_profile_says() -> None:
    text = STARTER.read_text()
    assert _loaded(STARTER)["jobs"]["retrain"]["permissions"] == {
        "contents": "read",
        "id-token": "write",
    }
    assert set(re.findall(r"\bvars\.(\w+)", text)) == {"KFP_HOST", "AWS_ROLE", "RETRAIN_RUNNER"}
    commands = set(re.findall(r"^ +(?:run: )?(tspin [a-z ]+)", text, re.MULTILINE))
    assert {c.strip() for c in commands} == {
        "tspin pipeline manifests",
        "tspin pipeline environment",
        "tspin retrain",
    }


def test_who_retrains_cannot_write_and_who_writes_runs_nothing_of_the_push() -> None:
    jobs = _loaded(ROOT / ".github/workflows/retrain.yml")["jobs"]
    assert jobs["retrain"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert jobs["comment"]["permissions"] == {
        "actions": "read",
        "contents": "write",
        "statuses": "write",
    }
    later = [_loaded(path)["jobs"] for path in OUTCOMES]
    assert [jobs["ask"]["permissions"]["statuses"] for jobs in later] == ["read", "read"]
    writers = [jobs["comment"], _loaded(STARTER)["jobs"]["status"], *(j["tell"] for j in later)]
    assert not any("uses" in step for job in writers for step in job["steps"])


STATUSES = {"first": "r-1", "second": "r-2", "third": "r-3", "fourth": ""}
GH = """#!/bin/sh
case "$2" in
{cases}
esac
"""
TSPIN = """#!/bin/sh
case "$3" in r-1) echo SUCCEEDED ;; r-2) echo RUNNING ;; r-3) echo FAILED ;; esac
"""


@pytest.mark.parametrize("path", OUTCOMES, ids=["here", "project"])
def test_runs_that_have_ended_are_told_apart_from_those_that_go_on(
    path: Path, tmp_path: Path
) -> None:
    """The step itself, in a repository of four commits; gh and tspin answer what was asked."""
    (step,) = [s for s in _loaded(path)["jobs"]["ask"]["steps"] if s.get("id") == "ask"]
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    commits = {}
    for name in STATUSES:
        subprocess.run([*git, "commit", "-qm", name, "--allow-empty"], cwd=tmp_path, check=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True)
        commits[name] = head.stdout.decode().strip()
    cases = "\n".join(
        f'repos/o/r/commits/{commits[name]}/status) printf %s "{run}" ;;'
        for name, run in STATUSES.items()
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("gh", GH.format(cases=cases)), ("tspin", TSPIN)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    output = tmp_path / "output"
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(output)}
    subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        cwd=tmp_path,
        env=os.environ | environment | {"GITHUB_REPOSITORY": "o/r"},
        check=True,
    )
    third, first = commits["third"], commits["first"]
    assert output.read_text() == f"ended<<END\n{third} failure r-3\n{first} success r-1\nEND\n"


def test_a_newer_push_supersedes_a_queued_one_and_none_is_cut_off() -> None:
    github = _loaded(ROOT / ".github/workflows/retrain.yml")
    assert github["concurrency"] == {"group": "retrain", "cancel-in-progress": False}
    gitlab = _loaded(GITLAB)
    assert gitlab["workflow"]["auto_cancel"] == {"on_new_commit": "conservative"}
    assert gitlab["retrain"]["interruptible"] is False
    assert gitlab["retrain"]["resource_group"] == "retrain"


def test_targets_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in WORKFLOWS:
        for target in re.findall(r"\bmake ([\w-]+)", path.read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_release_begins_with_a_tag_and_what_builds_cannot_publish() -> None:
    release = _loaded(ROOT / ".github/workflows/release.yml")
    assert release[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}  # YAML 1.1 reads `on`.
    jobs = release["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "package": None,
        "publish": {"contents": "read", "id-token": "write"},
        "images": {"contents": "read", "packages": "write", "id-token": "write"},
    }
    assert jobs["publish"]["needs"] == jobs["images"]["needs"] == "package"
    assert jobs["publish"]["environment"] == "pypi"
    assert "make release-tag" in str(jobs["package"])
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    version = re.findall(r'__version__ = "(.+)"', (ROOT / "tspin/__init__.py").read_text())[0]
    codes = [
        subprocess.run(["make", "--silent", "release-tag", f"TAG={tag}"], cwd=ROOT).returncode
        for tag in (f"v{version}", version, f"v{version}1", "")
    ]
    assert codes == [0, 2, 2, 2]
