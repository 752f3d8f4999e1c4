"""Which packages are installed, against what this release was tested with and what needs them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from tspin.machine.check import Check, Status

__all__ = ["TESTED", "check_extras", "check_packages", "check_python"]

TESTED = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "lm-eval": "0.4.13",
    "orjson": "3.13.0",
    "peft": "0.21.2",
    "pyarrow": "26.0.1",
    "pydantic": "2.14.3",
    "safetensors": "0.8.0",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "transformers": "5.19.0",
}
"""The versions in constraints.txt that decide results; a test keeps the two equal."""

_TESTED_PYTHON = ((3, 11), (3, 12))

_NEEDED_FOR = {
    "train": "tspin generate, train, evaluate and run need it",
    "eval": "evaluate.tasks needs it",
    "eval-paper": "evaluate.tasks 'paper' needs it, in an environment without DVC",
    "quantize": "model.quantize needs it",
    "vllm": "generate.engine 'vllm' needs it",
    "hub": "data sets by name from the Hub need it",
    "mlflow": "system.report_to 'mlflow' needs it, and runs that Kubeflow Pipelines hands down",
    "metrics": "system.metrics_port needs it",
    "registry": "mirrors in Kubeflow Model Registry need it",
    "oci": "tspin export --oci needs it",
    "pipelines": "Kubeflow pipelines need it",
    "dvc": "dvc repro needs it",
    "dev": "only for work on tspin itself",
}


def check_python() -> Check:
    """The interpreter's version."""
    version = sys.version_info[:2]
    text = sys.version.split()[0]
    tested = " and ".join(f"{major}.{minor}" for major, minor in _TESTED_PYTHON)
    if version in _TESTED_PYTHON:
        return Check("Python", "ok", text)
    return Check("Python", "warn", f"{text}; tested with {tested}")


def check_packages() -> Check:
    """The installed versions of the packages that decide results."""
    differing = []
    for name, tested in TESTED.items():
        version = _version(name)
        if version is not None and Version(version).public != tested:
            differing.append(f"{name} {version} (tested: {tested})")
    if differing:
        return Check("versions", "warn", f"not the tested set: {', '.join(differing)}")
    present = [f"{name} {tested}" for name, tested in TESTED.items() if _version(name)]
    return Check("versions", "ok", f"as tested: {', '.join(present)}")


@dataclass
class _Extra:
    missing: list[str] = field(default_factory=list)
    too_old: list[str] = field(default_factory=list)


def check_extras() -> list[Check]:
    """One check for what every command needs, and one for each extra."""
    try:
        lines = requires("tspin") or []
    except PackageNotFoundError:
        detail = "tspin runs from its source and is not installed; pip install -e '.[train]'"
        return [Check("installation", "warn", detail)]
    extras: dict[str, _Extra] = {"": _Extra()}
    for line in lines:
        requirement = Requirement(line)
        extra = _extra_of(line)
        requirements = extras.setdefault(extra, _Extra())
        if requirement.name != "tspin" and _applies(requirement, extra):
            _look_up(requirement, requirements)
    return [_check_extra(name, requirements) for name, requirements in extras.items()]


def _extra_of(line: str) -> str:
    match = re.search(r"""extra\s*==\s*["']([^"']+)["']""", line)
    return match[1] if match else ""


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _look_up(requirement: Requirement, requirements: _Extra) -> None:
    present = _version(requirement.name)
    if present is None:
        requirements.missing.append(requirement.name)
    elif not requirement.specifier.contains(present, prereleases=True):
        requirements.too_old.append(f"{requirement.name} {present} (needs {requirement.specifier})")


def _check_extra(name: str, requirements: _Extra) -> Check:
    title = f"extra '{name}'" if name else "tspin itself"
    parts = [f"missing: {', '.join(requirements.missing)}"] if requirements.missing else []
    parts += [f"unfit: {', '.join(requirements.too_old)}"] if requirements.too_old else []
    if not parts:
        return Check(title, "ok", "installed")
    if not name:
        return Check(title, "fail", f"{'; '.join(parts)}; install tspin again")
    # What only developers need is no worry of a user's.
    status: Status = "ok" if name == "dev" else "warn"
    why = _NEEDED_FOR.get(name, "optional")
    return Check(title, status, f"{'; '.join(parts)}; {why} (pip install 'tspin[{name}]')")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
