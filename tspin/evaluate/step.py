"""The evaluate step: a policy on held-out records, every number with its interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.engines.choice import check_engine_temperature
from tspin.engines.room import memory_of_gpus, refuse_too_large
from tspin.evaluate.answers import LentEngine, heldout_answers
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.job import EvaluationJob, modes_of
from tspin.evaluate.metrics import verifiable_answers
from tspin.evaluate.shards.measurements import Measurements, write_evaluation, write_shard
from tspin.evaluate.shards.processes import (
    evaluate_in_processes,
    shards_folder,
    workers_wanted,
)
from tspin.evaluate.sharing import leading, sharing_processes
from tspin.evaluate.tasks import TaskEvaluation
from tspin.evaluate.temperature import FittedTemperature, check_temperature, fitted_temperature
from tspin.files import read_object, remove
from tspin.generate.shards import WHOLE, Shard
from tspin.models.policy import Policy, load_policy, resolve_device
from tspin.models.quantization import check_quantization
from tspin.models.threads import Work
from tspin.progress.status import at_work
from tspin.records.arithmetic import Arithmetic, begun_path
from tspin.records.estimate import Likelihood, read_metrics
from tspin.records.manifest import Manifest, forget, is_current
from tspin.records.records import Response
from tspin.records.step_clock import kept, phase, timed_step, working

__all__ = ["evaluate", "is_evaluated"]


@timed_step("evaluate")
def evaluate(
    config: RunConfig,
    *,
    model: str,
    annotated: Path,
    out: Path,
    proto: Path | None,
    iteration: int,
    temperature: float | None = None,
    arithmetic: Arithmetic | None = None,
    shard: Shard = WHOLE,
) -> dict[str, Any]:
    """Measure a policy on held-out records and write metrics.json.

    What stands beside it: `tspin.runs.folder.EvaluationFiles`; what is measured:
    `tspin.evaluate.metrics`. A killed evaluation continues with its answers where it stopped.
    Returns at once if `out` is in place and made from exactly these inputs.

    Args:
        config: `evaluate`, `generate`, `prompt`, `seed`, `model` and `system` are used.
        model: The policy: a model folder, an adapter folder, or a name on the Hub.
        annotated: Annotated records that were not trained on.
        out: Where metrics.json goes.
        proto: Responses of the initial policy to the same prompts (y0); None leaves out what is
            compared with them, as for the initial policy itself.
        iteration: The one that the policy ended; -1 for the initial policy.
        temperature: This policy's, fitted on other records; None fits it on these, if
            `evaluate.fit_temperature` asks for one. Not used otherwise.
        arithmetic: What the run was begun with; None outside of a run (`tspin.models.threads`).
        shard: Which part of the work to do; `tspin.evaluate.shards.merging` joins the parts.

    Returns:
        What metrics.json holds (`tspin.records.estimate.read_metrics`); of a shard, what
        `tspin.evaluate.shards.measurements.write_shard` says.

    Raises:
        InputError: broken or over-long records, an extractor that finds nothing in them, `proto`
            of other prompts or another template, no such model, no such task or no data for it.
        TspinError: the work, or a process that shares it, failed; run again to continue.
        StoppedError: SIGTERM while several processes work. Exit code 143.
    """
    evaluation = EvaluationJob.of(
        config, model, annotated, proto, iteration, temperature=temperature, shard=shard
    )
    with leading(config.system) as first:
        if first and not _in_place(out, evaluation.wanted):
            with _computing(evaluation, out, arithmetic) as signed:
                _make(signed, out)
    return read_metrics(out) if shard == WHOLE else read_object(out)


@contextmanager
def _computing(
    evaluation: EvaluationJob, out: Path, arithmetic: Arithmetic | None
) -> Iterator[EvaluationJob]:
    """Yields the evaluation, signed with how it is computed."""
    named = {"the policy": evaluation.model, "the proto-synthetic responses": evaluation.proto}
    inputs = {name: path for name, path in named.items() if path is not None}
    system, wanted = evaluation.config.system, evaluation.wanted
    work = Work(system, wanted, begun_path(out), arithmetic, inputs)
    with (
        work.computing() as signed,
        at_work("evaluate", wanted.iteration),
        kept(out, wanted),
    ):
        yield dataclasses.replace(evaluation, wanted=signed)


def is_evaluated(
    config: RunConfig,
    *,
    model: str,
    annotated: Path,
    out: Path,
    proto: Path | None,
    iteration: int,
) -> bool:
    """Whether `evaluate` would return at once; nothing is loaded.

    Args:
        config: See `evaluate`.
        model: The policy.
        annotated: Held-out records.
        out: Where metrics.json goes.
        proto: Responses of the initial policy, or None.
        iteration: The one that the policy ended; -1 for the initial policy.

    Raises:
        InputError: a file or the model is missing, or the settings do not fit the model.
    """
    return _in_place(out, EvaluationJob.of(config, model, annotated, proto, iteration).wanted)


def _in_place(out: Path, wanted: Manifest) -> bool:
    if not is_current(out, wanted):
        return False
    remove(shards_folder(out))  # Whoever put them together may have been killed before doing so.
    return True


def _make(evaluation: EvaluationJob, out: Path) -> None:
    """All files of the evaluation, or of its shard; `out` and its manifest last."""
    check_quantization(evaluation.config.model)
    settings = evaluation.config.evaluate
    with phase("tokenising"):
        heldout = evaluation.heldout()
    tasks = TaskEvaluation.of(evaluation, out)
    # Before hours of generation: whatever can be wrong with the inputs.
    verifiable_answers(heldout.records, settings.extractors)
    proto = evaluation.proto_responses(heldout)
    check_temperature(evaluation, heldout)
    sharing = _processes(evaluation, tasks)
    forget(out)
    temperature = None
    if settings.fit_temperature:
        temperature = fitted_temperature(evaluation, heldout, out, processes=sharing)
        check_engine_temperature(evaluation.config, temperature.value)
    workers = 1 if sharing > 1 else workers_wanted(evaluation, heldout)
    if workers > 1:
        with working():  # With what each of them loads, of which it tells by itself.
            evaluate_in_processes(evaluation, out, workers)
        return
    measurements = _measure(evaluation, heldout, proto, temperature, tasks, out, sharing)
    if evaluation.shard == WHOLE:
        write_evaluation(out, evaluation.wanted, measurements, settings, tasks.results)
    else:
        write_shard(out, evaluation.wanted, measurements)
    remove(shards_folder(out))  # Of an earlier try with several processes.


def _measure(
    evaluation: EvaluationJob,
    heldout: Heldout,
    proto: Mapping[str, Response] | None,
    temperature: FittedTemperature | None,
    tasks: TaskEvaluation,
    out: Path,
    processes: int,
) -> Measurements:
    """Whatever needs the policy, of the records and the tasks' requests of this shard."""
    blocks, shard = heldout.blocks(evaluation.block_size), evaluation.shard
    own = heldout.only({identity for identity, at in blocks.items() if shard.holds(at)})
    fitted = None if temperature is None else temperature.value
    with closing(LentEngine(evaluation)) as engine:
        answers = {
            mode: heldout_answers(
                evaluation, own, out, mode, evaluation.sampling(mode, fitted), engine
            )
            for mode in modes_of(evaluation.config.evaluate)
        }
    if proto is not None:
        proto = {identity: proto[identity] for identity in own.prompts if identity in proto}
    responses = {"synthetic": answers.get("sampled"), "proto_synthetic": proto}
    tasks.ask_vllm()  # Before the policy takes memory of the GPU.
    # A shard may have no record, and only requests of tasks.
    alone = processes == 1 and own.records
    policy = _whole_policy(evaluation) if alone else None
    likelihoods = _likelihoods(evaluation, own, blocks, responses, policy, processes)
    if tasks.need_policy:
        tasks.ask(policy or _whole_policy(evaluation))
    return Measurements(own.records, heldout.dropped, answers, likelihoods, temperature)


def _processes(evaluation: EvaluationJob, tasks: TaskEvaluation) -> int:
    """How many share the policy's weights.

    Raises:
        InputError: it does not fit one GPU, and has to.
    """
    config, model = evaluation.config, evaluation.model
    if tasks.need_policy:
        instead = "Set evaluate.harness.backend to 'vllm', which spreads a model over several GPUs"
        refuse_too_large(model, config, memory_of_gpus(config.system), instead)
    return sharing_processes(config, model)


def _whole_policy(evaluation: EvaluationJob) -> Policy:
    config = evaluation.config
    device = resolve_device(config.system)
    with phase("loading"):
        return load_policy(evaluation.model, config.model, device=device, trainable=False)


def _likelihoods(
    evaluation: EvaluationJob,
    heldout: Heldout,
    blocks: Mapping[str, int],
    responses: Mapping[str, Mapping[str, Response] | None],
    policy: Policy | None,
    processes: int,
) -> dict[str, dict[str, Likelihood]]:
    """By role and id; see `tspin.evaluate.metrics.likelihood_metrics`."""
    encode = evaluation.template.response_ids
    annotated_ids = evaluation.template.annotated_ids
    texts = [("annotated", record.id, annotated_ids(record)) for record in heldout.records]
    for role, by_id in responses.items():
        for identity, response in (by_id or {}).items():
            finished = response.finish_reason == "stop"
            specials = response.special_tokens > 0
            ids = encode(response.response, finished=finished, specials=specials)
            texts.append((role, identity, ids))
    # A text may take more tokens than it was sampled with (bytes that were no UTF-8 became
    # U+FFFD), or none at all (cut off before its first character): neither has a likelihood.
    fitting = [
        (role, identity, ids)
        for role, identity, ids in texts
        if ids and len(heldout.prompts[identity]) + len(ids) <= evaluation.max_length
    ]
    likelihoods: dict[str, dict[str, Likelihood]] = {"annotated": {}}
    if not fitting:
        return likelihoods
    measurement = evaluation.measurement(
        ((heldout.prompts[identity], ids) for _, identity, ids in fitting),
        blocks=(blocks[identity] for _, identity, _ in fitting),
    )
    findings = measurement.found(processes) if policy is None else measurement.by(policy)
    for (role, identity, ids), logp in zip(fitting, findings.logps, strict=True):
        likelihoods.setdefault(role, {})[identity] = Likelihood(logp, len(ids))
    return likelihoods
