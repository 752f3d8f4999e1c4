"""The image `cpu`, built and run for real: not as root, no network, nothing writable but /cache."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.containers.conftest import writable
from tests.containers.cpu_image import REVISION
from tests.containers.podman import Podman

pytestmark = pytest.mark.containers

DEADLINE = 300.0
CONFIG = ("--config", "/opt/tspin/configs/demo.yaml")
DEMO = f"python3 -m tspin.demo build/demo && exec tspin run {' '.join(CONFIG)} --set iterations=1"


def _locked(image: str, cache: Path, *command: str, options: tuple[str, ...] = ()) -> list[str]:
    """Arguments of a container that may write to /cache and do nothing else."""
    return [
        *("run", "--rm", "--read-only", "--read-only-tmpfs=false", "--network=none"),
        *("--cap-drop=all", "--security-opt=no-new-privileges"),
        *(f"--volume={cache}:/cache", "--env=OMP_NUM_THREADS=2", *options),
        *("--entrypoint", command[0], image, *command[1:]),
    ]


def test_the_image_says_what_it_is(podman: Podman, cpu_image: str) -> None:
    image = podman.inspect(cpu_image)
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tspin"]
    assert image["Healthcheck"]["Test"] == ["CMD", "tspin", "doctor"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    named = " ".join(config["Env"]).upper()
    assert not any(word in named for word in ("SECRET", "TOKEN", "PASSWORD", "AWS_"))


def test_nothing_that_builds_is_left(podman: Podman, cpu_image: str, tmp_path: Path) -> None:
    looked = podman.call(
        *_locked(
            cpu_image,
            tmp_path,
            "sh",
            "-c",
            "command -v gcc cc make pip git; "
            "find / -xdev ( -name 'pip.conf' -size +0 -o -name '*.whl' -o -path '*/.cache/pip' ) "
            "-not -path '/proc/*' -not -path '/usr/share/python-wheels/*' 2>/dev/null; "
            "python3 -c 'import pip' 2>/dev/null && echo pip; id -u".replace("(", "\\(").replace(
                ")", "\\)"
            ),
        )
    )
    assert looked.stdout.split() == ["10001"]


def test_the_image_lists_its_packages(podman: Podman, cpu_image: str, tmp_path: Path) -> None:
    listed = podman.call(*_locked(cpu_image, tmp_path, "cat", "/opt/tspin/sbom.cdx.json"))
    names = {component["name"] for component in json.loads(listed.stdout)["components"]}
    assert {"tspin", "torch", "transformers", "kfp"} <= names
    assert "cyclonedx-bom" not in names


def test_the_health_command_is_content(podman: Podman, cpu_image: str, cache: Path) -> None:
    done = podman.call(*_locked(cpu_image, cache, "tspin", "doctor"), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail" not in done.stdout


@pytest.fixture(scope="module")
def played(podman: Podman, cpu_image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a container has written that played the demo's first iteration."""
    folder = writable(tmp_path_factory.mktemp("demo") / "cache")
    done = podman.call(*_locked(cpu_image, folder, "sh", "-c", DEMO), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


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
    process = podman.start(*_locked(cpu_image, played, *work, *endless, options=options))
    _wait_for(played / "again/train_log.jsonl", process)
    podman.call("kill", "--signal=TERM", "tspin-stopped")
    printed = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 143, printed
    kept = list(played.glob("again/model.checkpoints/checkpoint-*/complete.json"))
    assert len(kept) == 1


def test_sigterm_ends_what_does_not_train(podman: Podman, cpu_image: str, played: Path) -> None:
    options = ("--name=tspin-generating",)
    whole = ("tspin", "run", *CONFIG, "--set", "run_dir=another")
    process = podman.start(*_locked(cpu_image, played, *whole, options=options))
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
