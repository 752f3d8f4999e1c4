"""The engine, the images and the demo that the container tests share."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containers.images import build_image, engine
from tests.containers.podman import Podman

USER = 10001
DEMO = "/opt/tspin/configs/demo.yaml"


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
def image(podman: Podman) -> Callable[[str], str]:
    """Names a target's image, which is built from the working tree, once."""
    return functools.cache(functools.partial(build_image, podman))


@pytest.fixture(scope="session")
def cpu_image(image: Callable[[str], str]) -> str:
    return image("cpu")


def writable(folder: Path) -> Path:
    """What a volume would be: the one folder of a container that its user may write to."""
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty volume."""
    return writable(tmp_path / "cache")


def locked(image: str, cache: Path, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """Arguments of a container that may write to /cache and do nothing else."""
    return [
        *("run", "--rm", "--read-only", "--read-only-tmpfs=false", "--network=none"),
        *("--cap-drop=all", "--security-opt=no-new-privileges"),
        *(f"--volume={cache}:/cache", "--env=OMP_NUM_THREADS=2", *options),
        *("--entrypoint", command[0], image, *command[1:]),
    ]


@pytest.fixture(scope="session")
def played(podman: Podman, cpu_image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a container has written that played the demo's first iteration."""
    folder = writable(tmp_path_factory.mktemp("demo") / "cache")
    commands = (
        f"cp {DEMO} demo.yaml && python3 -m tspin.demo build/demo "
        "&& exec tspin run --config demo.yaml --set iterations=1"
    )
    done = podman.call(*locked(cpu_image, folder, "sh", "-c", commands), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
