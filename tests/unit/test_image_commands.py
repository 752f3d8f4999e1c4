"""`make image`, `make push` and the release's script: bases by digest, the commit as the tag."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'ab' * 32}"
PYTHON = f"docker.io/library/python@{DIGEST}"
VLLM = f"docker.io/vllm/vllm-openai@{DIGEST}"

RECORDER = """#!/usr/bin/env python3
import json, os, pathlib, sys
arguments = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(arguments) + chr(10))
for option, text in {
    "--metadata-file": json.dumps({"containerimage.digest": os.environ["DIGEST"]}),
    "--digestfile": os.environ["DIGEST"],
}.items():
    if option in arguments:
        pathlib.Path(arguments[arguments.index(option) + 1]).write_text(text)
"""
"""Stands in for docker, podman and cosign: writes down how it was called."""


class Checkout:
    """A commit of what the commands read, and programs that write down their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder / "checkout", folder / "programs"
        for name in ("Makefile", ".gitignore", ".ci/release-image", "tspin/__init__.py"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.com")
        for arguments in (["init", "--quiet"], ["add", "."], [*identity, "commit", "-qm", "All"]):
            subprocess.run(["git", *arguments], cwd=self.folder, check=True)
        head = ["git", "rev-parse", "HEAD"]
        self.commit = subprocess.check_output(head, cwd=self.folder, text=True).strip()
        self.programs.mkdir()
        for name in ("docker", "podman", "cosign"):
            (self.programs / name).write_text(RECORDER)
            (self.programs / name).chmod(0o755)

    def run(
        self, *command: str, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        """What a command printed, and the calls that it made."""
        calls = self.programs / "calls"
        calls.write_text("")
        variables = {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.programs)}
        variables |= {"CALLS": str(calls), "DIGEST": DIGEST}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=variables | environment,
            capture_output=True,
            text=True,
        )
        return done, [json.loads(line) for line in calls.read_text().splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_release_is_pushed_with_its_attestations_and_signed_by_digest(checkout: Checkout) -> None:
    release = (".ci/release-image", "cpu", "ghcr.io/Owner/Name")
    done, calls = checkout.run(*release, PYTHON_IMAGE=PYTHON)
    assert done.returncode == 0, done.stderr
    build, sign = calls
    assert build[:5] == ["docker", "buildx", "build", "--target", "cpu"]
    assert {"--sbom=true", "--provenance=mode=max", "--push"} <= {*build}
    assert f"ghcr.io/owner/name/cpu:{checkout.commit}" in build
    assert f"PYTHON_IMAGE={PYTHON}" in build
    assert not any(argument.startswith("VLLM_IMAGE") for argument in build)
    assert sign == ["cosign", "sign", "--yes", f"ghcr.io/owner/name/cpu@{DIGEST}"]


@pytest.mark.parametrize("command", [(".ci/release-image", "generate", "a/b"), ("make", "image")])
@pytest.mark.parametrize(
    "bases",
    [
        {},
        {"PYTHON_IMAGE": "python:3.11"},
        {"PYTHON_IMAGE": PYTHON},
        {"VLLM_IMAGE": VLLM},
        {"PYTHON_IMAGE": PYTHON, "VLLM_IMAGE": "vllm/vllm-openai:latest"},
        {"PYTHON_IMAGE": PYTHON, "VLLM_IMAGE": "vllm/vllm-openai@sha256:abc"},
    ],
)
def test_no_image_is_built_on_a_base_that_may_change(
    command: tuple[str, ...], bases: dict[str, str], checkout: Checkout
) -> None:
    done, calls = checkout.run(*command, TARGET="generate", **bases)
    assert (done.returncode, calls) == (2, [])
    assert "must name a digest" in done.stderr


def test_an_image_is_tagged_with_the_commit_and_pushed(checkout: Checkout) -> None:
    named = ("TARGET=generate", "REGISTRY=registry.example.com/tspin", "ENGINE=podman")
    name = f"registry.example.com/tspin/generate:{checkout.commit}"
    bases = {"PYTHON_IMAGE": PYTHON, "VLLM_IMAGE": VLLM}
    done, (build,) = checkout.run("make", "image", *named, **bases)
    assert done.returncode == 0, done.stderr
    assert build[:6] == ["podman", "build", "--target", "generate", "--tag", name]
    assert {f"VLLM_IMAGE={VLLM}", f"REVISION={checkout.commit}"} <= {*build}
    done, (push,) = checkout.run("make", "push", *named)
    assert done.returncode == 0, done.stderr
    assert (push[:2], push[-1]) == (["podman", "push"], name)
    assert done.stdout.splitlines()[-1] == f"{name}@{DIGEST}"


def test_what_no_commit_holds_is_marked_and_not_pushed(checkout: Checkout) -> None:
    (checkout.folder / "tspin/new.py").touch()
    done, (build,) = checkout.run("make", "image", "ENGINE=docker", PYTHON_IMAGE=PYTHON)
    assert done.returncode == 0, done.stderr
    assert f"tspin/cpu:{checkout.commit}-dirty" in build
    for command in (("make", "push"), (".ci/release-image", "cpu", "a/b")):
        done, calls = checkout.run(*command, PYTHON_IMAGE=PYTHON)
        assert (done.returncode, calls) == (2, [])
        assert "tspin/new.py" in done.stderr
