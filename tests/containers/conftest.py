"""The engine and the image that the container tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.containers.podman import ROOT, Podman

REVISION = "0123456789abcdef0123456789abcdef01234567"
USER = 10001


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Skips without the engine, unless a run says that it must be there."""
    missing = [name for name in ("podman", "buildah", "debootstrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        reason = f"needs root and {', '.join(missing) or 'nothing else'}"
        if os.environ.get("TSPIN_REQUIRE_CONTAINERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Podman(ROOT / "build/containers")


@pytest.fixture(scope="session")
def cpu_image(podman: Podman) -> str:
    """The target `cpu`, built from the working tree."""
    return podman.build(
        "cpu",
        "localhost/tspin/cpu:0.1.0",
        PYTHON_IMAGE=podman.make_base(),
        VERSION="0.1.0",
        REVISION=REVISION,
        SOURCE="https://example.com/tspin",
    )


def writable(folder: Path) -> Path:
    """What a volume would be: the one folder of a container that its user may write to."""
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty volume."""
    return writable(tmp_path / "cache")
