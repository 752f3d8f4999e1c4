"""An evaluation by one process a GPU, each with a shard; pods share one in the same way."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pydantic import BaseModel, ConfigDict

from tspin.config import RunConfig
from tspin.engines import engine_name
from tspin.engines.vllm_args import shared_by, vllm_args
from tspin.errors import InputError
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.job import EvaluationJob
from tspin.evaluate.shards.merging import merge_evaluations
from tspin.evaluate.temperature import copy_temperature
from tspin.files import remove
from tspin.generate.shards import Shard
from tspin.models.folder import find_model
from tspin.processes.launch import launch, launched, processes_wanted

__all__ = ["ShardsJob", "evaluate_in_processes", "shards_folder", "workers_wanted"]


class ShardsJob(BaseModel):
    """What the processes are to do, as JSON for `tspin.evaluate.shards.worker`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    """Of one process, which shares nothing further."""
    model: str
    annotated: Path
    proto: Path | None
    iteration: int
    temperature: float | None
    shards: tuple[str, ...]
    """By process."""
    folder: Path
    """Where the shards go."""

    def out(self, process: int) -> Path:
        """Where a process writes its shard."""
        return self.folder / self.shards[process].replace("/", "-of-") / "metrics.json"


def workers_wanted(evaluation: EvaluationJob, heldout: Heldout) -> int:
    """How many processes are to make the evaluation, each with the whole policy on its own GPU.

    As many as would train, but no more than have something to do; one where a launcher has started
    this process, or where vLLM spreads one copy of the policy over several GPUs.

    Args:
        evaluation: Of a policy that one GPU holds.
        heldout: Its records.
    """
    config = evaluation.config
    if launched() or _over_several_gpus(evaluation):
        return 1
    workers = processes_wanted(config.system)
    if config.evaluate.tasks:
        return workers
    blocks = set(heldout.blocks(evaluation.block_size).values())
    return min(workers, sum(map(evaluation.shard.holds, blocks)) or 1)


def _over_several_gpus(evaluation: EvaluationJob) -> bool:
    config, vllm = evaluation.config, engine_name(evaluation.config) == "vllm"
    own = config.evaluate.harness.vllm_args
    given = [*(config.generate.engine_args if vllm else ()), *own]
    if any(name.endswith("_parallel_size") for name in given):
        return True
    folder = find_model(evaluation.model, config.model)
    if evaluation.tasks_in_vllm and shared_by(config, folder, own, evaluation.context):
        return True
    return vllm and vllm_args(config, folder).get("tensor_parallel_size", 1) > 1


def shards_folder(out: Path) -> Path:
    """Where shards stand that processes make, until they are merged."""
    return out.with_name(f".{out.name}.shards")


def evaluate_in_processes(evaluation: EvaluationJob, out: Path, workers: int) -> None:
    """Let each of several processes make a shard, and put the shards together.

    They stand in a folder beside `out` until then: after a kill, what was finished is not made
    again.

    Args:
        evaluation: Its `wanted` says how the result was computed. A temperature to be fitted stands
            beside `out` already.
        out: metrics.json.
        workers: How many.

    Raises:
        TspinError: a process failed, with its message and of its kind.
    """
    of, folder = evaluation.shard, shards_folder(out)
    # As 1/2 in three processes: 1/6, 3/6 and 5/6.
    shards = [Shard(of.index + of.count * at, of.count * workers) for at in range(workers)]
    alone = {"num_processes": 1, "threads": torch.get_num_threads()}
    system = evaluation.config.system.model_copy(update=alone)
    job = ShardsJob(
        config=evaluation.config.model_copy(update={"system": system}),
        model=evaluation.model,
        annotated=evaluation.annotated,
        proto=evaluation.proto,
        iteration=int(evaluation.wanted.iteration or 0),
        temperature=evaluation.temperature,
        shards=tuple(map(str, shards)),
        folder=folder,
    )
    parts = [job.out(process) for process in range(workers)]
    if evaluation.config.evaluate.fit_temperature:
        for part in parts:
            copy_temperature(out, part)
    try:
        with TemporaryDirectory(prefix="tspin-evaluate-") as place:
            written = Path(place, "job.json")
            written.write_text(job.model_dump_json())
            launch(workers, "tspin.evaluate.shards.worker", str(written), kind="evaluation")
    except InputError:
        remove(folder)
        raise
    merge_evaluations(
        parts, annotated=evaluation.annotated, out=out, of=of, signed=evaluation.wanted
    )
    remove(folder)
