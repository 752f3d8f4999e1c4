"""The tasks of one evaluation: which are still to be done, and what came of them."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tspin.engines.choice import find_vllm, vllm_device, vllm_numerics
from tspin.engines.lifeline import Lifeline
from tspin.engines.vllm_args import (
    adapter_args,
    quantization_args,
    shared_by,
    vllm_environment,
)
from tspin.errors import InputError
from tspin.evaluate.intervals import from_error
from tspin.evaluate.job import EvaluationJob, shard_parameters
from tspin.evaluate.metrics import Metrics
from tspin.files import write_json
from tspin.generate.shards import WHOLE, Shard
from tspin.harness.blocks import BlockwiseModel
from tspin.harness.loading import LoadedTask, harness_version, load_task
from tspin.harness.models import end_vllm, policy_model, vllm_model
from tspin.harness.requests import AVERAGE, TaskRequest, task_requests
from tspin.harness.scoring import ask, score
from tspin.models.device import dtype_name, numerics, resolve_device
from tspin.models.folder import find_model
from tspin.models.generation import generation_settings, write_end_ids
from tspin.models.policy import Policy, load_tokenizer
from tspin.records.estimate import Estimate
from tspin.records.manifest import Manifest, forget, is_current, write_manifest
from tspin.records.step_clock import phase, working
from tspin.runs.folder import EvaluationFiles

__all__ = ["TaskEvaluation", "TaskResults"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskResults:
    """The scores of the tasks of one evaluation, from the files beside its metrics.json."""

    out: Path
    requests: tuple[TaskRequest, ...]
    confidence: float
    """Of the intervals."""

    def details(self) -> dict[str, Any]:
        """For metrics.json: version of the harness, and of each task version, shots and scores."""
        if not self.requests:
            return {}
        tasks = {name: task for result in self._read() for name, task in result["tasks"].items()}
        return {"lm_eval": {"version": harness_version(), "tasks": tasks}}

    def metrics(self) -> Metrics:
        """`lm_eval/TASK/METRIC`, with `/FILTER` where the harness filtered the answers.

        Of a group its own score; those of its members stand in `details`. A preset's headline
        scores have their mean as well (`tspin.harness.requests.AVERAGE`).
        """
        metrics: Metrics = {}
        headlines: list[tuple[float, float | None, int]] = []
        for request, result in zip(self.requests, self._read(), strict=True):
            for name in result["shown"]:
                task = result["tasks"][name]
                for key, estimate in task["scores"].items():
                    value, error, n = estimate["value"], estimate["stderr"], task["n"]
                    metric = f"lm_eval/{name}/{key.replace(',', '/')}".removesuffix("/none")
                    metrics[metric] = from_error(value, error, n, confidence=self.confidence)
                    if key == request.headline:
                        headlines.append((value, error, n))
        if headlines:
            metrics[AVERAGE] = _average(headlines, self.confidence)
        return metrics

    def _read(self) -> list[dict[str, Any]]:
        """What `tspin.harness.scoring.score` gave for each request, in their order."""
        return [
            json.loads(EvaluationFiles(self.out).task(request.name).read_bytes())
            for request in self.requests
        ]


@dataclass(frozen=True)
class TaskEvaluation:
    """Tasks of lm-evaluation-harness for one policy; each result is kept beside metrics.json.

    A shard of an evaluation asks every n-th block of each task's requests
    (`tspin.harness.blocks`) and keeps the answers; the scores are made where shards are merged.
    """

    evaluation: EvaluationJob
    out: Path
    """metrics.json; the result of a task is `metrics.task.NAME.json`."""
    requests: tuple[TaskRequest, ...]
    pending: tuple[LoadedTask, ...]
    """Those without a current result, with their questions."""

    @classmethod
    def of(cls, evaluation: EvaluationJob, out: Path) -> TaskEvaluation:
        """Load the questions of whatever is still to be asked; no model is loaded.

        Raises:
            InputError: a task that is unknown, refused, or whose data cannot be had; vLLM is asked
                for and not installed.
        """
        requests = task_requests(evaluation.config.evaluate)
        tasks = cls(evaluation, out, requests, ())
        if requests and evaluation.tasks_in_vllm:
            if find_vllm() is None:
                raise InputError("evaluate.harness.backend is 'vllm', which is not installed here")
            tasks._quantization()
        undone = [r for r in requests if not is_current(tasks._path(r), tasks._wanted(r))]
        pending = tuple(load_task(r, evaluation.task_folder) for r in undone)
        return dataclasses.replace(tasks, pending=pending)

    def ask_vllm(self) -> None:
        """Ask vLLM all that is pending, if it is the one to ask; its memory is free afterwards."""
        if not (self.pending and self.evaluation.tasks_in_vllm):
            return
        config = self.evaluation.config
        folder = find_model(self.evaluation.model, config.model)
        own = config.evaluate.harness.vllm_args
        arguments = {k: v for k, v in adapter_args(folder).items() if k == "max_lora_rank"}
        arguments |= shared_by(config, folder, own, self.evaluation.context)
        lifeline = Lifeline()
        try:
            with (
                phase("loading"),
                vllm_environment(lifeline.mark),
                TemporaryDirectory(prefix="tspin-ends-") as place,
            ):
                # A folder of generation settings is how vLLM is told of end tokens.
                settings = generation_settings(folder, config.model)
                write_end_ids(Path(place), self.evaluation.template.stop_ids, settings or {})
                model = vllm_model(
                    str((folder.base(config.model) if folder.is_adapter else folder).path),
                    adapter=str(folder.path) if folder.is_adapter else None,
                    chat=self.evaluation.chat,
                    trust_remote_code=config.model.trust_remote_code,
                    dtype=dtype_name(config.model, vllm_device(config)),
                    **self._quantization(),
                    max_model_len=self.evaluation.context,
                    seed=config.seed,
                    **{"generation_config": place, **own},
                    **arguments,
                )
            self._run(model)
            end_vllm(model)
        finally:
            lifeline.cut()
        gc.collect()
        torch.cuda.empty_cache()

    @property
    def need_policy(self) -> bool:
        """Whether anything is left to ask a policy in memory."""
        return bool(self.pending) and not self.evaluation.tasks_in_vllm

    def ask(self, policy: Policy) -> None:
        """Ask a policy in memory all that is pending, unless vLLM is the one to ask."""
        if not self.need_policy:
            return
        config = self.evaluation.config
        self._run(
            policy_model(
                policy,
                load_tokenizer(self.evaluation.model, config.model),
                chat=self.evaluation.chat,
                ends=self.evaluation.template.stop_ids,
                max_length=self.evaluation.context,
                batch_size=config.system.generate_batch_size,
            )
        )

    @property
    def results(self) -> TaskResults:
        """What came of the tasks, once all have been asked."""
        confidence = self.evaluation.config.evaluate.confidence
        return TaskResults(self.out, self.requests, confidence)

    def _quantization(self) -> dict[str, Any]:
        config = self.evaluation.config
        section = "evaluate.harness.vllm_args"
        return quantization_args(config, config.evaluate.harness.vllm_args, section)

    def _run(self, model: Any) -> None:
        """Task by task: what was done before a kill stays."""
        shard, seed = self.evaluation.shard, self.evaluation.config.seed
        for number, task in enumerate(self.pending, start=1):
            name, first = task.request.name, self.requests.index(task.request)
            log.info("evaluate, task %s (%d of %d)", name, number, len(self.pending))
            asked = BlockwiseModel(
                model,
                batch_size=self.evaluation.config.system.generate_batch_size,
                together=self.evaluation.tasks_in_vllm,
                seed=seed,
                # Another shard begins each task: many tasks have few blocks.
                holds=_holding(shard, first),
                label=f"evaluate, task {name}",
            )
            path = self._path(task.request)
            forget(path)
            with working():
                if shard == WHOLE:
                    given = score(asked, task, chat_template=self._asks_chat, seed=seed)
                else:
                    ask(asked, task, chat_template=self._asks_chat, seed=seed)
                    given = asked.shares
            write_json(path, given)
            write_manifest(path, self._wanted(task.request))

    @property
    def _asks_chat(self) -> bool:
        return self.evaluation.chat is not None

    def _path(self, request: TaskRequest) -> Path:
        return EvaluationFiles(self.out).task(request.name)

    def _wanted(self, request: TaskRequest) -> Manifest:
        metrics = self.evaluation.wanted
        inputs = {role: metrics.inputs[role] for role in {"task_folder"} & metrics.inputs.keys()}
        parameters = {
            **dataclasses.asdict(request),
            "chat_template": self._asks_chat,
            "lm_eval": metrics.parameters["lm_eval"],
            **_numerics(self.evaluation),
            **shard_parameters(self.evaluation.shard, self.evaluation.block_size),
        }
        engine = "vllm" if self.evaluation.tasks_in_vllm else "transformers"
        changes = {"inputs": inputs, "parameters": parameters, "engine": engine}
        return metrics.model_copy(update=changes)


def _holding(shard: Shard, first: int) -> Callable[[int], bool]:
    """Whether a shard has a block of a task whose first block is so far on."""
    return lambda block: shard.holds(first + block)


def _numerics(evaluation: EvaluationJob) -> dict[str, str | None]:
    """As the policy itself computes, or as vLLM, which chooses its attention by itself."""
    config = evaluation.config
    if evaluation.tasks_in_vllm:
        return dict(vllm_numerics(config))
    return numerics(config.model, resolve_device(config.system))


def _average(scores: list[tuple[float, float | None, int]], confidence: float) -> Estimate:
    values, errors, counts = zip(*scores, strict=True)
    known = [error for error in errors if error is not None]
    error = sqrt(sum(e * e for e in known)) / len(values) if len(known) == len(values) else None
    return from_error(sum(values) / len(values), error, sum(counts), confidence=confidence)
