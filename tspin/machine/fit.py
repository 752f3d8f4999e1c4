"""Whether a run configuration fits this machine: memory for training, disk for what it keeps."""

from __future__ import annotations

from dataclasses import replace

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.machine.advice import TIGHT, advice
from tspin.machine.check import Check, gib
from tspin.machine.hardware import Gpu, available_memory, free_disk
from tspin.machine.memory import MemoryEstimate
from tspin.machine.needs import Machine, hardware_of, needs
from tspin.models.shape import ModelShape, model_shape
from tspin.store import working_folder

__all__ = ["check_fit", "hardware_of", "models_bytes"]

_TRAINING = "memory for training"


def check_fit(config: RunConfig, gpus: list[Gpu]) -> list[Check]:
    """Compare what the training and the run folder need with what is here."""
    try:
        shape = model_shape(config.model, config.train.lora)
    except InputError as error:
        detail = f"{error}; no estimate of memory without it"
        return [Check("model", "fail", detail)]
    machine = Machine(tuple(gpus), available_memory()[0])
    described = Check("model", "ok", _described(shape))
    return [described, *_memory(config, shape, machine), _disk(config, shape)]


def models_bytes(config: RunConfig) -> int:
    """What the models of all iterations take; of a LoRA run only the adapters are kept.

    Raises:
        InputError: there is no such model, or transformers does not know it.
    """
    return _models_bytes(config, model_shape(config.model, config.train.lora))


def _models_bytes(config: RunConfig, shape: ModelShape) -> int:
    return config.iterations * 4 * (shape.adapter_parameters or shape.parameters)


def _described(shape: ModelShape) -> str:
    adapter = ""
    if shape.adapter_parameters:
        adapter = f", and {shape.adapter_parameters / 1e6:,.1f} million of a LoRA adapter on them"
    return f"{shape.parameters / 1e6:,.1f} million parameters{adapter}"


def _memory(config: RunConfig, shape: ModelShape, machine: Machine) -> list[Check]:
    """Of each process, and for GPUs of the host as well."""
    outcome = needs(shape, config, machine)
    estimate, hardware = outcome.estimate, outcome.hardware
    parts = ", ".join(f"{part} {gib(size)}" for part, size in estimate.parts().items() if size)
    if hardware.gpu and not machine.gpus:
        detail = f"system.device is 'cuda' and there is no GPU here; it would need {_sum(estimate)}"
        return [Check(_TRAINING, "fail", f"{detail} on each GPU ({parts})")]
    if hardware.gpu:
        place = "each GPU" if hardware.processes > 1 else "the GPU"
    else:
        place = f"{hardware.processes} processes together" if hardware.processes > 1 else "the CPU"
    if hardware.shards > 1:
        place += f", weights sharded over {hardware.shards}"
    needed, there = outcome.device
    detail = f"about {gib(needed)} at the peak on {place}, {gib(there)} free ({parts})"
    checks = [_verdict(_TRAINING, needed, there, detail)]
    if outcome.host is not None:
        needed, there = outcome.host.total, outcome.available
        parts = ", ".join(f"{k} {gib(v)}" for k, v in vars(outcome.host).items() if v)
        detail = f"about {gib(needed)} of the host's, {gib(there)} available ({parts})"
        checks.append(_verdict("memory of the host", needed, there, detail))
    doubtful = [number for number, check in enumerate(checks) if check.status != "ok"]
    if doubtful:  # One change is for both.
        last = checks[doubtful[-1]]
        detail = f"{last.detail}; {advice(shape, config, machine)}"
        checks[doubtful[-1]] = replace(last, detail=detail)
    return checks


def _verdict(name: str, needed: int, there: int, detail: str) -> Check:
    if needed <= TIGHT * there:
        return Check(name, "ok", f"fits: {detail}")
    if needed <= there:
        return Check(name, "warn", f"tight: {detail}")
    return Check(name, "fail", f"does not fit: {detail}")


def _sum(estimate: MemoryEstimate) -> str:
    return f"about {gib(estimate.total)}"


def _disk(config: RunConfig, shape: ModelShape) -> Check:
    """Every iteration's model stays; two checkpoints exist while one replaces the other."""
    trained = shape.adapter_parameters or shape.parameters
    states = 2 if config.train.optimizer == "adamw" else 1
    models = _models_bytes(config, shape)
    checkpoints = 2 * 4 * (1 + states) * trained
    needed, there = models + checkpoints, free_disk(working_folder(config.run_dir))
    detail = (
        f"about {gib(needed)} for {config.iterations} models and the checkpoints, {gib(there)} free"
    )
    if needed <= there:
        return Check("disk for the run", "ok", f"fits: {detail}")
    return Check("disk for the run", "fail", f"does not fit: {detail}")
