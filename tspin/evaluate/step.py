"""The evaluate step: a policy on held-out records, every number with its interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.engines.room import memory_of_gpus, refuse_too_large
from tspin.evaluate.answers import heldout_answers
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.job import EvaluationJob
from tspin.evaluate.likelihoods import write_likelihoods
from tspin.evaluate.metrics import (
    Metrics,
    answer_metrics,
    likelihood_metrics,
    verifiable_answers,
)
from tspin.evaluate.sharing import leading, sharing_processes
from tspin.evaluate.tasks import TaskEvaluation
from tspin.evaluate.temperature import check_temperature, fitted_temperature
from tspin.files import write_json
from tspin.models.policy import Policy, load_policy, resolve_device
from tspin.models.quantization import check_quantization
from tspin.models.threads import Work
from tspin.records.arithmetic import Arithmetic, begun_path
from tspin.records.estimate import Likelihood, read_metrics
from tspin.records.manifest import forget, is_current, write_manifest
from tspin.records.records import Response, write_records
from tspin.runs.folder import EvaluationFiles
from tspin.runs.samples import SHOWN
from tspin.seeds import choose

__all__ = ["evaluate", "is_evaluated"]


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

    Returns:
        What metrics.json holds (`tspin.records.estimate.read_metrics`).

    Raises:
        InputError: broken or over-long records, an extractor that finds nothing in them, `proto`
            of other prompts or another template, no such model, no such task or no data for it.
        TspinError: the work, or a process that shares it, failed; run again to continue.
        StoppedError: SIGTERM while several processes work. Exit code 143.
    """
    evaluation = EvaluationJob.of(
        config, model, annotated, proto, iteration, temperature=temperature
    )
    with leading(config.system) as first:
        if first and not is_current(out, evaluation.wanted):
            named = {"the policy": model, "the proto-synthetic responses": proto}
            inputs = {name: path for name, path in named.items() if path is not None}
            work = Work(config.system, evaluation.wanted, begun_path(out), arithmetic, inputs)
            with work.computing() as signed:
                _make(dataclasses.replace(evaluation, wanted=signed), out)
    return read_metrics(out)


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
    return is_current(out, EvaluationJob.of(config, model, annotated, proto, iteration).wanted)


def _make(evaluation: EvaluationJob, out: Path) -> None:
    """All files of the evaluation, metrics.json and its manifest last."""
    check_quantization(evaluation.config.model)
    manifest, heldout = evaluation.wanted, evaluation.heldout()
    tasks = TaskEvaluation.of(evaluation, out)
    forget(out)
    metrics = _measure(evaluation, heldout, tasks, out)
    _write_samples(heldout, out)
    result = {
        "iteration": manifest.iteration,
        "model": manifest.model,
        "records": len(heldout.records),
        "metrics": {name: estimate.as_json() for name, estimate in metrics.items()},
        **tasks.details(),
    }
    write_json(out, result)
    counts = {"records": len(heldout.records), "over_long": len(heldout.dropped)}
    dropped = {"over_long": heldout.dropped} if heldout.dropped else {}
    write_manifest(out, manifest.model_copy(update={"counts": counts, "dropped_ids": dropped}))


def _write_samples(heldout: Heldout, out: Path) -> None:
    """Prompts and annotations of a few records, so that a run folder can be read by itself."""
    by_id = {record.id: record for record in heldout.records}
    write_records(
        EvaluationFiles(out).samples, [by_id[identity] for identity in choose(by_id, SHOWN)]
    )


def _measure(
    evaluation: EvaluationJob, heldout: Heldout, tasks: TaskEvaluation, out: Path
) -> Metrics:
    """All metrics of the policy; a further kind of measurement is one more `|=` here."""
    settings = evaluation.config.evaluate
    # Before hours of generation: whatever can be wrong with the inputs.
    expected = verifiable_answers(heldout.records, settings.extractors)
    proto = evaluation.proto_responses(heldout)
    check_temperature(evaluation, heldout)
    processes = _processes(evaluation, tasks)
    metrics: Metrics = {}
    temperature = None
    if evaluation.config.evaluate.fit_temperature:
        fitted = fitted_temperature(evaluation, heldout, out, processes=processes)
        metrics |= fitted.metrics(confidence=settings.confidence)
        temperature = fitted.value
    answers = {
        mode: heldout_answers(
            evaluation, heldout, out, mode, evaluation.sampling(mode, temperature)
        )
        for mode in evaluation.modes
    }
    responses = {"synthetic": answers.get("sampled"), "proto_synthetic": proto}
    for mode, by_id in answers.items():
        metrics |= answer_metrics(by_id, expected, mode=mode, confidence=settings.confidence)
    tasks.ask_vllm()  # Before the policy takes memory of the GPU.
    policy = None if processes > 1 else _whole_policy(evaluation)
    likelihoods = _likelihoods(evaluation, heldout, responses, policy, processes)
    write_likelihoods(out, likelihoods["annotated"])
    metrics |= likelihood_metrics(likelihoods, confidence=settings.confidence)
    if tasks.need_policy:
        tasks.ask(policy or _whole_policy(evaluation))
    return metrics | tasks.metrics()


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
    return load_policy(evaluation.model, config.model, device=device, trainable=False)


def _likelihoods(
    evaluation: EvaluationJob,
    heldout: Heldout,
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
    measurement = evaluation.measurement(
        (heldout.prompts[identity], ids) for _, identity, ids in fitting
    )
    findings = measurement.found(processes) if policy is None else measurement.by(policy)
    likelihoods: dict[str, dict[str, Likelihood]] = {}
    for (role, identity, ids), logp in zip(fitting, findings.logps, strict=True):
        likelihoods.setdefault(role, {})[identity] = Likelihood(logp, len(ids))
    return likelihoods
