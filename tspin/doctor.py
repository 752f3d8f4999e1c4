"""`tspin doctor`: what is installed, what this machine has, and what would not work."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from tspin.config import RunConfig, SystemConfig
from tspin.errors import InputError, TspinError
from tspin.machine.check import Check
from tspin.machine.driver import check_driver
from tspin.machine.hardware import (
    check_arithmetic,
    check_disk,
    check_gpus,
    check_memory,
    check_processors,
    find_gpus,
)
from tspin.machine.packages import check_extras, check_packages, check_python
from tspin.models.quantization import check_quantization
from tspin.registry import Registry
from tspin.store import exists, is_remote, working_folder

__all__ = ["Check", "check_registry", "check_s3", "doctor_report", "models_size"]

_TRAINING = ("torch", "transformers", "peft", "accelerate", "safetensors")

# Names only: what they hold is nobody's business here.
_S3_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_S3_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
}


def doctor_report(config: RunConfig | None, registry: str | None = None) -> list[Check]:
    """Look at this machine, and at a run's configuration if there is one.

    Works without torch, and says then what does not. Nothing is written but the registry's probe,
    no weight is loaded; of a Hub model the metadata is fetched.

    Args:
        config: The run to be made here.
        registry: Where its model is to be promoted; None looks at none.
    """
    gpus = find_gpus()
    folder = working_folder(config.run_dir) if config is not None else Path()
    checks = [
        check_python(),
        check_packages(),
        *check_extras(),
        check_processors(),
        check_arithmetic(SystemConfig() if config is None else config.system),
        check_memory(),
        check_driver(),
        check_gpus(gpus),
        check_disk(folder),
        check_s3(),
        *([] if registry is None else [check_registry(registry)]),
    ]
    if config is None:
        return checks
    checks += _check_inputs(config)
    checks += _check_quantization(config)
    checks += _check_tasks(config)
    missing = [name for name in _TRAINING if find_spec(name) is None]
    if missing:
        detail = f"not estimated: {', '.join(missing)} not installed (pip install 'tspin[train]')"
        return [*checks, Check("memory for training", "fail", detail)]
    from tspin.machine.fit import check_fit
    from tspin.machine.lengths import check_lengths

    return [*checks, _check_engine(config), *check_lengths(config), *check_fit(config, gpus)]


def models_size(config: RunConfig) -> int | None:
    """Bytes of the models of all iterations together; None where it cannot be told here.

    Of a model that pods alone can read, nothing is known here.
    """
    if any(find_spec(name) is None for name in _TRAINING):
        return None
    from tspin.machine.fit import models_bytes

    try:
        return models_bytes(config)
    except InputError:
        return None


def check_s3() -> Check:
    """Whether the client for s3:// is there and where it would find credentials."""
    sources = [name for name in _S3_VARIABLES if os.environ.get(name)]
    for variable, usual in _S3_FILES.items():
        path = Path(os.environ.get(variable) or usual).expanduser()
        if path.is_file():
            sources.append(variable if os.environ.get(variable) else usual)
    seen = f"credentials could come from {', '.join(sources)}" if sources else "no credentials seen"
    if find_spec("boto3") is None:
        return Check("S3", "ok", f"boto3 is not installed, s3:// cannot be reached; {seen}")
    return Check("S3", "ok", seen)


def check_registry(uri: str) -> Check:
    """Whether a model could be promoted from here: the records are read, an object is created."""
    try:
        registry = Registry(uri)
        registry.probe()
        champion = registry.champion()
    except TspinError as error:
        return Check("registry", "fail", str(error))
    today = "no champion yet" if champion is None else f"champion {champion.number}"
    return Check("registry", "ok", f"{uri} can be promoted to; {today}")


def _check_inputs(config: RunConfig) -> list[Check]:
    checks = []
    inputs: list[tuple[str, str | None]] = [
        ("data.annotated", config.data.annotated),
        ("data.heldout", config.data.heldout),
    ]
    for name, location in inputs:
        if location is None:
            detail = "not set: nothing will be evaluated, and no gate can hold"
            checks.append(Check(name, "warn", detail))
        else:
            checks.append(_check_input(name, location))
    if is_remote(config.model.path):
        checks.append(_check_input("model.path", config.model.path))
    return checks


def _check_input(name: str, location: str) -> Check:
    try:
        there = exists(location)
    except TspinError as error:
        return Check(name, "fail", str(error))
    if there:
        return Check(name, "ok", location)
    return Check(name, "fail", f"{location}: no such file; `tspin data import` makes records")


def _check_engine(config: RunConfig) -> Check:
    """Which engine would answer here, and whether it could hold the initial policy."""
    from tspin.engines.choice import engine_name, usable_vllm
    from tspin.engines.vllm_args import vllm_args

    try:
        name = engine_name(config)
        if name != "vllm":
            return Check("generate.engine", "ok", name)
        version, arguments = usable_vllm(config), vllm_args(config, config.model.path)
    except TspinError as error:
        return Check("generate.engine", "fail", str(error))
    copies, gpus = (arguments.get(f"{kind}_parallel_size", 1) for kind in ("data", "tensor"))
    place = "the CPU" if version.on_cpu else f"{copies} times {gpus} GPUs"
    return Check("generate.engine", "ok", f"vllm ({version.name} {version.version}) on {place}")


def _check_quantization(config: RunConfig) -> list[Check]:
    try:
        check_quantization(config.model)
    except InputError as error:
        return [Check("model.quantize", "fail", str(error))]
    return []


def _check_tasks(config: RunConfig) -> list[Check]:
    if config.evaluate.tasks and find_spec("lm_eval") is None:
        detail = "lm-eval is not installed here (pip install 'tspin[eval]')"
        return [Check("evaluate.tasks", "fail", detail)]
    return []
