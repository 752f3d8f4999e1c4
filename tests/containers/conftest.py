"""The engine and the image that the container tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.containers.cpu_image import build_cpu_image, engine
from tests.containers.podman import Podman

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
    return engine()


@pytest.fixture(scope="session")
def cpu_image(podman: Podman) -> str:
    """The target `cpu`, built from the working tree."""
    return build_cpu_image(podman)


def writable(folder: Path) -> Path:
    """What a volume would be: the one folder of a container that its user may write to."""
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty volume."""
    return writable(tmp_path / "cache")
