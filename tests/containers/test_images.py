"""All images, built and run for real: not as root, no network, nothing writable but /cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.containers.conftest import locked
from tests.containers.images import REVISION, TARGETS
from tests.containers.podman import Podman

pytestmark = pytest.mark.containers

PACKAGES = {
    "cpu": {"torch", "transformers", "kfp", "lm-eval"},
    "train": {"torch", "transformers", "kfp"},
    "evaluate": {"torch", "transformers", "kfp", "lm-eval", "math-verify"},
    "generate": {"torch", "transformers", "kfp", "vllm"},
}
SETTINGS = ("--config", "demo.yaml")
VLLM = (
    "generate.engine=vllm",
    "generate.max_new_tokens=16",
    "generate.engine_args={enforce_eager: true, distributed_executor_backend: uni, "
    "max_num_seqs: 16, kv_cache_memory_bytes: 268435456}",
)
SHARED_MEMORY = ("--shm-size=1g",)
"""vLLM's processes want 160 MiB, the usual is 64; profiles give more."""
EXTENSION = """
echo '#include <Python.h>' > launcher.c
gcc -shared -fPIC launcher.c -o launcher.so \
    -I"$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')"
"""
"""As Triton compiles the launchers of its kernels."""


def run(
    podman: Podman, image: str, cache: Path, *command: str, options: tuple[str, ...] = ()
) -> str:
    """What a container printed that must succeed."""
    done = podman.call(*locked(image, cache, *command, options=options), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_is(
    podman: Podman, image: Callable[[str], str], target: str, cache: Path
) -> None:
    said = podman.inspect(image(target))
    config = said["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tspin"]
    assert said["Healthcheck"]["Test"] == ["CMD", "tspin", "doctor"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    named = " ".join(config["Env"]).upper()
    assert not any(word in named for word in ("SECRET", "TOKEN", "PASSWORD", "AWS_"))
    listed = json.loads(run(podman, image(target), cache, "cat", "/opt/tspin/sbom.cdx.json"))
    names = {canonicalize_name(component["name"]) for component in listed["components"]}
    assert {"tspin", *PACKAGES[target]} <= names
    assert "cyclonedx-bom" not in names


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_installs_is_left(
    podman: Podman, image: Callable[[str], str], target: str, cache: Path
) -> None:
    programs = "make pip git" + (" gcc" if target == "cpu" else "")
    seen = run(
        podman,
        image(target),
        cache,
        "sh",
        "-c",
        f"command -v {programs}; "
        "find / -xdev \\( -name 'pip.conf' -size +0 -o -name '*.whl' -o -path '*/.cache/pip' \\) "
        "-not -path '/proc/*' -not -path '/usr/share/python-wheels/*' 2>/dev/null; "
        "python3 -c 'import pip' 2>/dev/null && echo pip; id -u",
    )
    assert seen.split() == ["10001"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_health_command_is_content(
    podman: Podman, image: Callable[[str], str], target: str, cache: Path
) -> None:
    assert "fail" not in run(podman, image(target), cache, "tspin", "doctor")


@pytest.mark.parametrize("target", ["train", "evaluate"])
def test_what_triton_needs_to_compile_is_there(
    podman: Podman, image: Callable[[str], str], target: str, cache: Path
) -> None:
    run(podman, image(target), cache, "sh", "-ec", EXTENSION)
    assert (cache / "launcher.so").stat().st_size > 0


def test_the_steps_of_an_iteration_each_in_its_image(
    podman: Podman, image: Callable[[str], str], played: Path
) -> None:
    """vLLM answers, training trains, and what was trained is measured, as in a pipeline."""
    data = played / "few.jsonl"
    annotated = (played / "build/demo/annotated.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join(annotated[:16]))
    vllm = [word for setting in VLLM for word in ("--set", setting)]
    files = ("--model", "build/demo/base", "--annotated", data.name, "--out", "steps/answers.jsonl")
    command = ("tspin", "generate", *SETTINGS, *files, *vllm)
    run(podman, image("generate"), played, *command, options=SHARED_MEMORY)
    answers = json.loads((played / "steps/answers.jsonl.manifest.json").read_bytes())
    assert (answers["engine"], answers["tspin_commit"]) == ("vllm", REVISION)
    assert len((played / "steps/answers.jsonl").read_text().splitlines()) == 16

    files = ("--model", "build/demo/base", "--triplets", "runs/demo/iter-0/triplets.jsonl")
    out = ("--iteration", "0", "--out", "steps/model")
    run(podman, image("train"), played, "tspin", "train", *SETTINGS, *files, *out)
    assert (played / "steps/model/model.safetensors").is_file()

    files = ("--model", "steps/model", "--annotated", "build/demo/heldout.jsonl")
    out = ("--out", "steps/metrics.json")
    run(podman, image("evaluate"), played, "tspin", "evaluate", *SETTINGS, *files, *out)
    metrics = json.loads((played / "steps/metrics.json").read_bytes())["metrics"]
    first = json.loads((played / "runs/demo/iter-0/metrics.json").read_bytes())["metrics"]
    # The same step on the same triplets in another image; a last digit may be another.
    value = pytest.approx(first["nll_per_token"]["value"], rel=1e-6)
    assert metrics["nll_per_token"]["value"] == value


def test_the_mathematics_of_the_papers_tasks_is_there(
    podman: Podman, image: Callable[[str], str], cache: Path
) -> None:
    check = "from math_verify import parse, verify; print(verify(parse('$1/2$'), parse('$0.5$')))"
    assert run(podman, image("evaluate"), cache, "python3", "-c", check).strip() == "True"
