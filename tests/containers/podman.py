"""Podman and buildah as root without a daemon, with settings of their own, none in /etc.

Overlay storage below `build/containers`, so that a second run finds the layers of the first; runc,
since crun refuses machines with both versions of cgroups; the host's network for building and none
for running, since bridges need a firewall that a sandbox has not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = "localhost/debian-python:bookworm-dev"
VLLM_BASE = "localhost/debian-vllm:bookworm"
VLLM = ROOT / "tests/vllm"

_VLLM_CONTAINERFILE = f"""\
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libnuma1
COPY requirements.txt /vllm/
COPY named_vllm /vllm/named_vllm
ARG TORCH_INDEX
RUN rm /usr/lib/python3*/EXTERNALLY-MANAGED \\
    && python3 -m venv /vllm/pip \\
    && /vllm/pip/bin/pip --python /usr/bin/python3 install --no-cache-dir --no-deps \\
        --extra-index-url "$TORCH_INDEX" --requirement /vllm/requirements.txt /vllm/named_vllm \\
    && rm -r /vllm
"""

_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
_ANYTHING = '{"default": [{"type": "insecureAcceptAnything"}]}'


@dataclass(frozen=True)
class Podman:
    """An engine whose images and containers stand in one folder."""

    folder: Path

    def __post_init__(self) -> None:
        """Write the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "containers.conf": _CONTAINERS,
            "storage.conf": _STORAGE.format(folder=self.folder),
            "policy.json": _ANYTHING,
        }
        for name, text in settings.items():
            file = self.folder / name
            # As they are, another process may be reading them.
            if not file.is_file() or file.read_text() != text:
                file.write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        """For every command of podman and buildah."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def command(self, *arguments: str) -> list[str]:
        """A command line of podman."""
        return ["podman", *arguments]

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run podman and go on."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image says of itself."""
        found: dict[str, Any] = json.loads(self.call("image", "inspect", image).stdout)[0]
        return found

    def make_base(self) -> str:
        """A small Debian with Python, in the place of the image that a registry would have."""
        if self.call("image", "exists", BASE, check=False).returncode == 0:
            return BASE
        tree = self.folder / "debian"
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                "--include=python3,python3-venv,libpython3-dev,ca-certificates",
                "bookworm",
                str(tree),
            ],
            check=True,
            capture_output=True,
        )
        archive = self.folder / "debian.tar"
        subprocess.run(["tar", "-C", str(tree), "-cf", str(archive), "."], check=True)
        self.call("import", str(archive), BASE)
        archive.unlink()
        return BASE

    def make_vllm_base(self, torch_index: str) -> str:
        """The same with vLLM for CPUs in the system's Python, in the place of vLLM's own image."""
        file = self.folder / "Containerfile.vllm"
        file.write_text(_VLLM_CONTAINERFILE)
        return self._build(VLLM_BASE, VLLM, f"--file={file}", TORCH_INDEX=torch_index)

    def build(self, target: str, tag: str, **arguments: str) -> str:
        """Build a target of the Dockerfile from the working tree."""
        return self._build(tag, ROOT, f"--target={target}", **arguments)

    def _build(self, tag: str, context: Path, option: str, **arguments: str) -> str:
        """Build an image with the settings of this machine's pip; what stays is not made again."""
        options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--volume={volume}" for volume in _pip_settings(self.folder)]
        done = subprocess.run(
            [
                *("buildah", "bud", "--isolation=chroot", "--network=host", "--layers"),
                *("--format=docker", f"--signature-policy={self.folder / 'policy.json'}"),
                *("--tag", tag, option, *options, str(context)),
            ],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return tag


def _pip_settings(folder: Path) -> list[str]:
    """Volumes that give a build the settings of this machine's pip, and what they name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'")
    file = folder / "pip.conf"
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    file.write_text("[global]\n" + "".join(lines))
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    paths = [Path(word) for word in words if word.startswith("/")]
    # An index's entries may link to their siblings: mount what is above `simple`.
    named = {str(path.parent if path.name == "simple" else path) for path in paths}
    found = [f"{path}:{path}:ro" for path in sorted(named) if Path(path).exists()]
    return [f"{file}:/etc/pip.conf:ro", *found]
