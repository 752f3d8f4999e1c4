"""Containers for kfp.local, over podman's Docker-compatible socket.

kfp's own runner lets containers remove themselves, and takes one that is gone before it was asked
for its status to have succeeded, which on podman it is each time. Here a container is created,
followed, waited for and only then removed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest
from kfp.local import docker_task_handler

from tests.containers.podman import Podman

__all__ = ["docker_socket", "run_followed"]

DEADLINE = 900.0
"""Seconds for podman to start, to answer and to end, however busy the machine is."""


def run_followed(
    client: docker.DockerClient,
    image: str,
    command: list[str],
    volumes: dict[str, Any],
    **given: Any,
) -> int:
    """Run a container to its end and say how it ended."""
    client.api.timeout = DEADLINE  # A minute by default, in which a task may not say anything.
    # As in a pod: a task's command stands in the place of the image's entry point.
    container = client.containers.create(
        image, command[1:], entrypoint=command[:1], volumes=volumes, **given
    )
    try:
        container.start()
        for line in container.logs(stream=True, follow=True):
            sys.stdout.write(line.decode())
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True, v=True)


@contextmanager
def docker_socket(podman: Podman) -> Iterator[None]:
    """Serve podman to Docker's clients, kfp's runner among them, inside the block."""
    address = podman.folder / "podman.sock"
    address.unlink(missing_ok=True)
    service = subprocess.Popen(
        podman.command("system", "service", "--time=0", f"unix://{address}"),
        env=podman.environment,
    )
    try:
        end = time.monotonic() + DEADLINE
        while not address.is_socket():
            assert service.poll() is None, "podman's service ended"
            assert time.monotonic() < end, "podman's service is not there"
            time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", f"unix://{address}")
            patch.setattr(docker_task_handler, "run_docker_container", run_followed)
            yield
    finally:
        service.terminate()
        service.wait(DEADLINE)
