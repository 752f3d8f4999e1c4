"""What the image `cpu` does: it plays the demo, and ends on SIGTERM as a pod should."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.containers.conftest import locked
from tests.containers.images import REVISION
from tests.containers.podman import Podman

pytestmark = pytest.mark.containers

DEADLINE = 1200.0
"""Seconds for a container to get on, however busy the machine is."""
CONFIG = ("--config", "demo.yaml")


def test_the_demo_plays_its_first_iteration(played: Path) -> None:
    run = played / "runs/demo"
    metrics = json.loads((run / "iter-0/metrics.json").read_bytes())["metrics"]
    before = json.loads((run / "base/metrics.json").read_bytes())["metrics"]
    assert metrics["nll_per_token"]["value"] < before["nll_per_token"]["value"]
    assert (run / "report.html").is_file()
    manifest = json.loads((run / "iter-0/model.manifest.json").read_bytes())
    assert manifest["tspin_commit"] == REVISION


def test_sigterm_leads_to_a_checkpoint(podman: Podman, cpu_image: str, played: Path) -> None:
    files = ("--model", "build/demo/base", "--triplets", "runs/demo/iter-0/triplets.jsonl")
    work = ("tspin", "train", *CONFIG, *files, "--iteration", "0", "--out", "again/model")
    options = ("--name=tspin-stopped",)
    endless = ("--set", "train.epochs=50")
    process = podman.start(*locked(cpu_image, played, *work, *endless, options=options))
    _wait_for(played / "again/train_log.jsonl", process)
    podman.call("kill", "--signal=TERM", "tspin-stopped")
    printed = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 143, printed
    kept = list(played.glob("again/model.checkpoints/checkpoint-*/complete.json"))
    assert len(kept) == 1


def test_sigterm_ends_what_does_not_train(podman: Podman, cpu_image: str, played: Path) -> None:
    options = ("--name=tspin-generating",)
    whole = ("tspin", "run", *CONFIG, "--set", "run_dir=another")
    process = podman.start(*locked(cpu_image, played, *whole, options=options))
    _wait_for(played / "another/config.json", process)
    podman.call("kill", "--signal=TERM", "tspin-generating")
    printed = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 143, printed


def _wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    """Until a container has written something there."""
    end = time.monotonic() + DEADLINE
    while not (file.is_file() and file.stat().st_size):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)
