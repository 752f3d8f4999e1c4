"""The images of the container tests: `python -m tests.containers.images` builds them beforehand."""

from __future__ import annotations

import fcntl
import os

from tests.containers.podman import ROOT, Podman

__all__ = ["REVISION", "TARGETS", "build_image", "engine"]

REVISION = "0123456789abcdef0123456789abcdef01234567"
TARGETS = ("cpu", "train", "evaluate", "generate")


def engine() -> Podman:
    """The engine of these tests; its images and layers stay until `make clean`."""
    return Podman(ROOT / "build/containers")


def build_image(podman: Podman, target: str) -> str:
    """A target from the working tree, on bases and a torch for CPUs that stand in for the real.

    What has not changed is not made again. Another process that builds is waited for: two at once
    would fill the same folders.
    """
    with (podman.folder / "building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build_image(podman, target)


def _build_image(podman: Podman, target: str) -> str:
    # This machine's pip may know a CPU build of torch besides those of the index.
    index = os.environ.get("TORCH_INDEX", "https://pypi.org/simple")
    bases = {"PYTHON_IMAGE": podman.make_base()}
    if target == "generate":
        bases["VLLM_IMAGE"] = podman.make_vllm_base(index)
    return podman.build(
        target,
        f"localhost/tspin/{target}:0.1.0",
        **bases,
        TORCH_INDEX=index,
        VERSION="0.1.0",
        REVISION=REVISION,
        SOURCE="https://example.com/tspin",
    )


if __name__ == "__main__":
    for name in TARGETS:
        build_image(engine(), name)
