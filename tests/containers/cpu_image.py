"""The image of the container tests: `python -m tests.containers.cpu_image` builds it beforehand."""

from __future__ import annotations

from tests.containers.podman import ROOT, Podman

__all__ = ["REVISION", "build_cpu_image", "engine"]

REVISION = "0123456789abcdef0123456789abcdef01234567"


def engine() -> Podman:
    """The engine of these tests; its images and layers stay until `make clean`."""
    return Podman(ROOT / "build/containers")


def build_cpu_image(podman: Podman) -> str:
    """The target `cpu` from the working tree; what has not changed is not made again."""
    return podman.build(
        "cpu",
        "localhost/tspin/cpu:0.1.0",
        PYTHON_IMAGE=podman.make_base(),
        VERSION="0.1.0",
        REVISION=REVISION,
        SOURCE="https://example.com/tspin",
    )


if __name__ == "__main__":
    build_cpu_image(engine())
