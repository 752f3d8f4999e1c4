"""Whether a run configuration fits this machine: memory for training, disk for what it keeps."""

from __future__ import annotations

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.machine.check import Check, gib
from tspin.machine.hardware import Gpu, available_memory, free_disk
from tspin.machine.memory import Hardware, MemoryEstimate, estimate_memory, largest_triplet
from tspin.models.shape import ModelShape, model_shape
from tspin.store import working_folder

__all__ = ["check_fit", "hardware_of", "models_bytes"]

_TIGHT = 0.8
"""Share of the memory past which an estimate is too close to call."""


def check_fit(config: RunConfig, gpus: list[Gpu]) -> list[Check]:
    """Compare what the training and the run folder need with what is here."""
    try:
        shape = model_shape(config.model, config.train.lora)
    except InputError as error:
        detail = f"{error}; no estimate of memory without it"
        return [Check("model", "fail", detail)]
    hardware = hardware_of(config, gpus)
    estimate = estimate_memory(shape, config, hardware)
    checks = [Check("model", "ok", _described(shape)), _memory(config, gpus, hardware, estimate)]
    return [*checks, _disk(config, shape)]


def models_bytes(config: RunConfig) -> int:
    """What the models of all iterations take; of a LoRA run only the adapters are kept.

    Raises:
        InputError: there is no such model, or transformers does not know it.
    """
    return _models_bytes(config, model_shape(config.model, config.train.lora))


def _models_bytes(config: RunConfig, shape: ModelShape) -> int:
    return config.iterations * 4 * (shape.adapter_parameters or shape.parameters)


def hardware_of(config: RunConfig, gpus: list[Gpu]) -> Hardware:
    """What training would run on here; where a GPU is asked for and none is here, a usual one."""
    gpu = config.system.device == "cuda" or (config.system.device == "auto" and bool(gpus))
    bfloat16 = config.model.dtype == "bfloat16"
    if config.model.dtype == "auto":
        bfloat16 = gpu and all(one.bfloat16 for one in gpus)
    asked = config.system.num_processes
    processes = asked if asked != "auto" else (max(len(gpus), 1) if gpu else 1)
    return Hardware(gpu=gpu, bfloat16=bfloat16, processes=processes)


def _described(shape: ModelShape) -> str:
    adapter = ""
    if shape.adapter_parameters:
        adapter = f", and {shape.adapter_parameters / 1e6:,.1f} million of a LoRA adapter on them"
    return f"{shape.parameters / 1e6:,.1f} million parameters{adapter}"


def _memory(
    config: RunConfig, gpus: list[Gpu], hardware: Hardware, estimate: MemoryEstimate
) -> Check:
    name = "memory for training"
    parts = ", ".join(f"{part} {gib(size)}" for part, size in estimate.parts().items() if size)
    if hardware.gpu and not gpus:
        detail = f"system.device is 'cuda' and there is no GPU here; it would need {_sum(estimate)}"
        return Check(name, "fail", f"{detail} on each GPU ({parts})")
    if hardware.gpu:
        place = "each GPU" if hardware.processes > 1 else "the GPU"
        needed, there = estimate.total, min(gpu.free for gpu in gpus)
        fixed = estimate.stays
    else:
        place = f"{hardware.processes} processes together" if hardware.processes > 1 else "the CPU"
        needed, there = estimate.total * hardware.processes, available_memory()[0]
        fixed = estimate.stays * hardware.processes
    detail = f"about {gib(needed)} at the peak on {place}, {gib(there)} free ({parts})"
    if needed <= _TIGHT * there:
        return Check(name, "ok", f"fits: {detail}")
    verdict = "tight" if needed <= there else "does not fit"
    advice = _advice(config, batch_helps=fixed < there)
    return Check(name, "warn" if needed <= there else "fail", f"{verdict}: {detail}; {advice}")


def _sum(estimate: MemoryEstimate) -> str:
    return f"about {gib(estimate.total)}"


def _advice(config: RunConfig, *, batch_helps: bool) -> str:
    """What would make it smaller, the cheapest first; none of the first three changes results."""
    if not batch_helps and config.train.lora is None:
        return (
            "all weights in training are too large for any batch: train a LoRA adapter (train.lora)"
        )
    options = []
    if config.system.tokens_per_device > largest_triplet(config):
        options.append("lower system.tokens_per_device")
    if not config.system.gradient_checkpointing:
        options.append("set system.gradient_checkpointing")
    if config.system.logps_chunk_size > 256:
        options.append("lower system.logps_chunk_size")
    if config.train.lora is None:
        options.append("train a LoRA adapter (train.lora)")
    options.append("shorten prompt.max_length")
    return f"to make it smaller: {', '.join(options)}"


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
