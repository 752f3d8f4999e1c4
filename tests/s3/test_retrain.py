"""Retraining by a git hook against a real S3 server: what CI does, without a forge."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dvc.project import Project
from tests.s3.swift import need_swift
from tests.s3_server import s3_bucket
from tspin.files import sha256_file
from tspin.registry import Record, Registry

pytestmark = [pytest.mark.s3, pytest.mark.timeout(3000)]  # Three retrainings in one test.

HOOK = """#!/bin/sh
# A runner with one slot: a newer push takes the place of a queued one, none is cut off.
while read before after ref; do
    : > {out}/$after.queued
    exec 9> {out}/lock
    flock 9
    if [ "$(git rev-parse refs/heads/main)" != "$after" ]; then
        echo superseded > {out}/$after.md
        echo 0 > {out}/$after.rc
        continue
    fi
    git clone -q . {out}/$after
    cd {out}/$after
    unset GIT_DIR GIT_QUARANTINE_PATH
    tspin retrain --since $before --registry {registry} --run $after --by "a pusher" \\
        --summary {out}/$after.md > {out}/$after.log 2>&1
    echo $? > {out}/$after.rc
    while [ -f {out}/hold ]; do sleep 0.1; done
    cd {out}/..
    rm -rf {out}/$after
done
"""


class Forge:
    """A bare repository whose hook retrains, and the project that is pushed to it."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.out = folder / "out"
        self.out.mkdir()
        self.registry = f"{bucket}/registry"
        self.project = Project(folder / "project")
        self.project.change(iterations=1)
        self.project.run("tspin", "dvc", "sync")
        self.project.run("dvc", "remote", "add", "-d", "store", f"{bucket}/dvc")
        self.project.run("git", "init", "-q", "--bare", "-b", "main", str(folder / "bare"))
        hook = folder / "bare/hooks/post-receive"
        hook.write_text(HOOK.format(out=self.out, registry=self.registry))
        hook.chmod(0o755)
        self.project.run("git", "remote", "add", "origin", str(folder / "bare"))

    def start(self) -> subprocess.Popen[str]:
        """A push on its way."""
        return self.project.popen("git", "push", "-q", "origin", "main")

    def push(self, message: str, *, data: bool = True) -> tuple[int, str, str]:
        """Commit and push; exit code, summary and log of the retraining."""
        self.project.commit(message)
        if data:
            self.project.run("dvc", "push", "-q")
        printed = self.start().communicate()[0]
        commit = self.head()
        assert (self.out / f"{commit}.rc").is_file(), printed
        return self.outcome(commit)

    def head(self) -> str:
        return self.project.run("git", "rev-parse", "HEAD").strip()

    def outcome(self, commit: str) -> tuple[int, str, str]:
        def text(kind: str) -> str:
            path = self.out / f"{commit}.{kind}"
            return path.read_text() if path.is_file() else ""

        return int(text("rc")), text("md"), text("log")

    def champion(self) -> Record | None:
        return Registry(self.registry).champion()

    def write(self, name: str, content: bytes) -> None:
        """New annotated records, tracked anew."""
        path = self.project.folder / f"sample/{name}.jsonl"
        path.unlink()  # DVC's cache may be linked to it.
        path.write_bytes(content)
        self.project.run("dvc", "add", "-q", f"sample/{name}.jsonl")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    need_swift()
    with s3_bucket() as bucket:
        yield Forge(tmp_path_factory.mktemp("forge"), bucket)


def records(forge: Forge) -> list[dict[str, Any]]:
    lines = (forge.project.folder / "sample/annotated.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def jsonl(found: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in found)


def test_pushes_from_the_first_model_to_a_refusal(forge: Forge) -> None:
    good = records(forge)
    forge.write("annotated", jsonl(good[:4]))
    forge.project.change(train={"learning_rate": 1e-3, "epochs": 3})
    code, summary, log = forge.push("first")
    assert code == 0, log
    assert "**Promoted**: champion 1" in summary
    assert "| Iteration |" in summary
    assert re.search(r'title "nll_per_token"\n    x-axis \[base, 0\]\n    line \[\d', summary)
    first = forge.champion()
    assert first is not None
    assert (first.run, first.git_commit, first.by) == (forge.head(), forge.head(), "a pusher")
    data = forge.project.folder / "sample/annotated.jsonl"
    assert sha256_file(data) in first.data.values()

    (forge.project.folder / "NOTES.md").write_text("words\n")
    code, summary, log = forge.push("words only")
    assert (code, summary) == (0, "")
    assert "nothing to retrain on" in log
    assert "Running stage" not in log

    forge.write("annotated", jsonl(good))
    code, summary, log = forge.push("more data")
    assert code == 0, log
    second = forge.champion()
    assert second is not None
    assert (second.number, second.previous) == (2, 1)
    assert re.search(r"metric +champion +candidate", summary)

    forge.write("annotated", jsonl(good[8:]))  # Better than no training, and no more.
    code, summary, log = forge.push("worse data")
    assert code == 3, log
    assert "**Refused**: the champion stays." in summary
    assert re.search(r"metric +champion +candidate\n +nll_per_token +[\d.]+ \[", summary)
    assert forge.champion() == second
    forge.write("annotated", jsonl(good))


def test_what_cannot_be_trained_on_is_refused_at_once(forge: Forge) -> None:
    before = forge.champion()
    lines = (forge.project.folder / "sample/annotated.jsonl").read_bytes().splitlines(True)
    forge.write("annotated", b"".join(lines[:6]))
    code, summary, log = forge.push("forgotten", data=False)
    assert code == 2
    assert "was `dvc push` forgotten?" in summary
    assert "not in the remote: sample/annotated.jsonl" in log
    assert "Running stage" not in log
    # Nor where this machine's cache has them.
    here = forge.project.popen("tspin", "retrain", "--registry", forge.registry)
    assert "not in the remote: sample/annotated.jsonl" in here.communicate()[0]
    assert here.returncode == 2

    forge.write("annotated", b"".join(lines[:6]) + b'{"id": "x", "prompt": "p", "response": 3}\n')
    code, summary, log = forge.push("broken")
    assert code == 2
    assert "annotated.jsonl:7" in summary
    assert "Running stage" not in log
    assert forge.champion() == before
    forge.write("annotated", b"".join(lines))


def test_a_newer_push_takes_the_place_of_a_queued_one(forge: Forge) -> None:
    """The first one keeps the runner until the others wait for it."""
    before = forge.champion()
    (forge.out / "hold").touch()
    pushes, commits = [], []
    for number in range(3):
        gate = {"metric": "nll_per_token", "direction": "min", "margin": 0.1 + number}
        forge.project.change(gate=gate)
        forge.project.commit(f"push {number}")
        commits.append(forge.head())
        pushes.append(forge.start())
        wait_for(forge.out / f"{commits[-1]}.{'queued' if number else 'rc'}", pushes[-1])
    (forge.out / "hold").unlink()
    for process in pushes:
        process.communicate()
    outcomes = [forge.outcome(commit) for commit in commits]
    assert outcomes[1] == (0, "superseded\n", "")
    for code, summary, log in (outcomes[0], outcomes[2]):
        assert code == 0, log
        assert "Running stage 'finish'" in log
        assert "The champion stays: number 2." in summary  # The same model once more.
    assert forge.champion() == before


def wait_for(path: Path, push: subprocess.Popen[str]) -> None:
    while not path.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            push.wait(timeout=0.05)
            raise AssertionError(push.communicate()[0])


def test_what_a_run_made_is_in_the_remote(forge: Forge, tmp_path: Path) -> None:
    """A colleague gets the models of CI without training: from the run cache in the bucket."""
    copy = tmp_path / "copy"
    forge.project.run("git", "clone", "-q", str(forge.project.folder), str(copy))
    forge.project.run("dvc", "pull", "-q", "--run-cache", "--allow-missing", cwd=copy)
    printed = forge.project.run("dvc", "repro", "--pull", cwd=copy)
    assert "Running stage 'train@0'" not in printed
    assert (copy / "runs/first/iter-0/model/model.safetensors").is_file()
