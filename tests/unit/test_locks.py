"""Images install what their locks name, by version and hash, and what was tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "locks"
HASHED = sorted(
    path.stem for path in LOCKS.glob("*.txt") if path.stem not in ("requirements", "vllm")
)
EXTRAS = {
    "train": ("train", "quantize", "pipelines"),
    "cpu": ("train", "quantize", "pipelines", "eval"),
    "evaluate": ("train", "quantize", "pipelines", "eval", "eval-paper"),
    "generate": ("train", "quantize", "pipelines"),
}
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
PYTHONS = {"generate": "3.12"}
"""Of the images' bases, where it is not 3.11."""


def _pins(path: Path, python: str = "3.11") -> dict[str, str]:
    """Versions by name, as an environment of this Python gets them."""
    environment = {**LINUX, "python_version": python, "python_full_version": f"{python}.0"}
    pins = {}
    for line in re.findall(r"^[\w.-]+==[^\\\n]+", path.read_text(), re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pins[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
    return pins


TESTED = _pins(ROOT / "constraints.txt")


@pytest.mark.parametrize("name", HASHED)
def test_every_package_has_a_hash(name: str) -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (LOCKS / f"{name}.txt").read_text(), flags=re.MULTILINE)
    assert len(entries) > 1
    assert [entry for entry in entries[1:] if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("image", EXTRAS)
def test_a_lock_answers_what_the_project_asks_for(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for name in EXTRAS[image] for line in extras[name])]
    python = PYTHONS.get(image, "3.11")
    pins = _pins(LOCKS / "torch.txt", python) | _pins(LOCKS / f"{image}.txt", python)
    requirements = [each for each in map(Requirement, asked) if each.name != "tspin"]
    assert len(requirements) > 10
    for requirement in requirements:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("image", EXTRAS)
def test_images_run_the_versions_that_were_tested(image: str) -> None:
    pins = _pins(LOCKS / f"{image}.txt", PYTHONS.get(image, "3.11"))
    pins |= {"torch": _pins(LOCKS / "torch.txt")["torch"]}
    other = {name for name, version in pins.items() if TESTED.get(name, version) != version}
    # DVC, which no image has, needs another antlr than the mathematics; vLLM an older numpy,
    # and another fastapi.
    allowed = {"evaluate": {"antlr4-python3-runtime"}, "generate": {"fastapi", "numpy"}}
    assert other == allowed.get(image, set())


def test_each_image_adds_to_the_one_before() -> None:
    train, cpu, evaluate = (_pins(LOCKS / f"{name}.txt") for name in ("train", "cpu", "evaluate"))
    assert train.items() <= cpu.items() <= evaluate.items()


def test_vllms_image_must_be_the_one_that_was_locked_for() -> None:
    pins = _pins(LOCKS / "vllm.txt")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (vllm,) = (each for each in map(Requirement, extras["vllm"]) if each.name == "vllm")
    assert pins["torch"] == TESTED["torch"]
    assert vllm.specifier.contains(pins["vllm"])
