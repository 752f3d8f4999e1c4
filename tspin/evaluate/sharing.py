"""What needs a policy's weights, found out by one process or by several that share them (FSDP2).

Several do where `system.shard` says so, or where the policy does not fit one GPU: this process then
starts one on each GPU, which keep a shard each and make a share of the forward passes. Under
torchrun they are there already: the first does the evaluation, and the others wait until it has
something to share.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed
from pydantic import BaseModel, ConfigDict

from tspin.config import RunConfig, SystemConfig
from tspin.engines.room import memory_of_gpus, passes_fit, refuse_too_large
from tspin.evaluate.temperature_fit import Numbers, fit_temperature
from tspin.forward.responses import ResponsePasses, response_likelihoods
from tspin.forward.tempered import tempered_nll
from tspin.models.device import dtype_name, resolve_device
from tspin.models.policy import Policy, load_policy
from tspin.models.pretrained import without_bars
from tspin.models.quantization import is_quantized
from tspin.models.sharding import Sharding, load_sharded
from tspin.models.threads import threads_held
from tspin.processes.group import errors_only, join_group, patient_group, wait_for_all
from tspin.processes.launch import check_world, launch, launched, processes_wanted
from tspin.records.estimate import Estimate
from tspin.records.step_clock import phase, working

__all__ = [
    "FINDINGS",
    "JOB",
    "Findings",
    "Measurement",
    "Temperature",
    "leading",
    "sharing_processes",
]

log = logging.getLogger(__name__)

JOB, FINDINGS = "job.json", "findings.json"
"""Files of the folder through which a worker is asked, and answers."""


class Temperature(BaseModel):
    """The temperature at which responses are to be measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    """None fits it, as `fit_temperature` does."""
    first: tuple[bool, ...]
    """Whether each response is of the first half of a cross-fit."""
    confidence: float


class Findings(BaseModel):
    """What a measurement gives."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    logps: tuple[float, ...]
    """Summed log-probabilities of the responses, in nats."""
    temperature: float = 1.0
    """At which these are, but for the cross-fit of one that was fitted."""
    fitted: Estimate | None = None
    halves: tuple[float, float] | None = None
    """Fitted on each half alone."""


class Measurement(BaseModel):
    """How likely a policy finds responses: all that has to be known of it, as JSON for workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    model: str
    pad_token_id: int
    pairs: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Token ids of prompts and responses."""
    blocks: tuple[int, ...] | None = None
    """Of each pair, as of `tspin.forward.responses.response_likelihoods`."""
    temperature: Temperature | None = None
    """None measures at 1."""
    threads: int
    """Of each process that computes on a CPU."""

    def by(self, policy: Policy) -> Findings:
        """Measured by a policy: a whole one, or with all processes that have a shard of it."""
        with working():
            return self._by(policy)

    def _by(self, policy: Policy) -> Findings:
        system = self.config.system
        settings: dict[str, Any] = {
            "pad_token_id": self.pad_token_id,
            "tokens_per_device": system.tokens_per_device,
            "chunk_size": system.logps_chunk_size,
            "device": resolve_device(system),
        }
        if self.temperature is None:
            likelihoods = response_likelihoods(policy, self.pairs, blocks=self.blocks, **settings)
            return Findings(logps=tuple(one.logp for one in likelihoods))
        passes, numbers = ResponsePasses(policy, self.pairs, **settings), itertools.count(1)

        def measure(inverses: Numbers) -> Numbers:
            label = f"evaluate, temperature, pass {next(numbers)}"
            sums = passes.sums(tempered_nll(inverses.tolist()), label=label)
            return sums.double().reshape(len(self.pairs), len(inverses), 3).numpy()

        asked = self.temperature
        if asked.value is not None:
            nll = measure(np.array([1 / asked.value]))[:, 0, 0]
            return Findings(logps=tuple((-nll).tolist()), temperature=asked.value)
        fit = fit_temperature(measure, np.array(asked.first), confidence=asked.confidence)
        return Findings(
            logps=tuple((-fit.nll).tolist()),
            temperature=fit.temperature.value,
            fitted=fit.temperature,
            halves=fit.halves,
        )

    def found(self, processes: int) -> Findings:
        """Measured by a policy that is loaded for it, whole or shared by several processes.

        Raises:
            InputError: it cannot be loaded, or sharded.
            TspinError: a process failed.
        """
        if processes == 1:
            system = self.config.system
            device = resolve_device(system)
            with phase("loading"):
                policy = load_policy(self.model, self.config.model, device=device, trainable=False)
            return self.by(policy)
        log.info("the weights are spread over %d processes", processes)
        if launched():
            _hand_out(self.model_dump_json())
            return self.found_with_others()
        with TemporaryDirectory(prefix="tspin-evaluate-") as folder:
            Path(folder, JOB).write_text(self.model_dump_json())
            with working():  # With what each of them loads.
                launch(processes, "tspin.evaluate.worker", folder, kind="evaluation")
            return Findings.model_validate_json(Path(folder, FINDINGS).read_bytes())

    def found_with_others(self) -> Findings:
        """The same on all processes of the group, each of which has to call it."""
        first = torch.distributed.get_rank() == 0
        with (
            threads_held(self.threads),
            without_bars(),
            nullcontext() if first else errors_only(),
        ):
            try:
                with phase("loading"):
                    policy = self._shard()
                return self.by(policy)
            finally:
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _shard(self) -> Policy:
        system, cpu = self.config.system, torch.device("cpu")
        device = resolve_device(system)
        # It is read to the CPU, whose own precision another would be.
        settled = self.config.model.model_copy(
            update={"dtype": dtype_name(self.config.model, device)}
        )

        def load(empty: bool) -> Policy:
            return load_policy(self.model, settled, device=cpu, trainable=False, empty=empty)

        sharding = Sharding(device, over=system.shard_over, offload=system.offload)
        return load_sharded(load, sharding, wait_for_all)


def sharing_processes(config: RunConfig, model: str, gpus: list[int] | None = None) -> int:
    """How many processes are to share a policy's weights; 1 where it is whole on one device.

    The same on every such machine: whole GPUs count, not what of them is free.

    Args:
        config: Sections model, prompt and system.
        model: A model folder, an adapter folder, or a name on the Hub.
        gpus: Bytes of memory of each; those of this machine by default, none on a CPU.

    Raises:
        InputError: its weights do not fit one GPU and cannot be shared.
    """
    system = config.system
    gpus = memory_of_gpus(system) if gpus is None else gpus
    processes = _processes(system)
    shareable = processes > 1 and system.shard != "off" and not is_quantized(config.model)
    if shareable and (system.shard == "on" or not passes_fit(model, config, gpus)):
        return processes
    instead = "Give system.num_processes more GPUs, and leave system.shard at 'auto'"
    refuse_too_large(model, config, gpus, instead)
    return 1


def _processes(system: SystemConfig) -> int:
    return int(os.environ["WORLD_SIZE"]) if launched() else processes_wanted(system)


@contextmanager
def leading(system: SystemConfig) -> Iterator[bool]:
    """Whether the block is to do the evaluation.

    It is, but in a process of torchrun's that is not the first: that one helps, before the block,
    wherever the first has something to share, and goes on when that has come to the block's end.
    After an error it does not; the launcher ends the others.

    Raises:
        TspinError: torchrun has started fewer processes than asked for.
    """
    if not launched() or _processes(system) == 1:
        yield True
        return
    check_world(system)
    join_group(resolve_device(system))
    if torch.distributed.get_rank() == 0:
        yield True
        _hand_out(None)
        return
    while (job := _hand_out(None)) is not None:
        Measurement.model_validate_json(job).found_with_others()
    yield False


def _hand_out(job: str | None) -> str | None:
    """What the first process gives to all of them."""
    jobs = [job]
    torch.distributed.broadcast_object_list(jobs, group=patient_group())
    return jobs[0]
