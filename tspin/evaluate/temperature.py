"""The sampling temperature of one evaluation: fitted once, and kept beside metrics.json."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tspin.errors import InputError
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.intervals import ratio
from tspin.evaluate.job import EvaluationJob
from tspin.evaluate.likelihoods import read_likelihoods, write_likelihoods
from tspin.evaluate.metrics import Metrics
from tspin.evaluate.sharing import Temperature
from tspin.evaluate.temperature_fit import LIMITS
from tspin.files import write_json
from tspin.models.device import numerics, resolve_device
from tspin.records.estimate import Estimate, Likelihood
from tspin.records.manifest import (
    Manifest,
    forget,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.runs.folder import EvaluationFiles
from tspin.seeds import choose

__all__ = [
    "FittedTemperature",
    "check_temperature",
    "copy_temperature",
    "fitted_temperature",
    "read_temperature",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedTemperature:
    """What `temperature.json` and its likelihoods hold."""

    value: float
    """The temperature to sample at."""
    estimate: Estimate | None
    """With its interval; None if it was fitted on other records and is only used here."""
    likelihoods: Mapping[str, Likelihood]
    """Of the annotations by record id, each at a temperature that was fitted without it."""

    def metrics(self, *, confidence: float) -> Metrics:
        """`temperature/fitted` where it was fitted here, and `nll_per_token/fitted`."""
        likelihoods = self.likelihoods.values()
        nll = ratio(
            [-one.logp for one in likelihoods],
            [one.tokens for one in likelihoods],
            confidence=confidence,
        )
        fitted = {} if self.estimate is None else {"temperature/fitted": self.estimate}
        return {**fitted, "nll_per_token/fitted": nll}


def check_temperature(evaluation: EvaluationJob, heldout: Heldout) -> None:
    """Refuse what cannot be fitted, before any work is done.

    Raises:
        InputError: there are not two records.
    """
    if evaluation.fits_temperature and len(heldout.records) < 2:
        raise InputError(
            f"{evaluation.annotated}: has one record to evaluate on; evaluate.fit_temperature "
            "needs two at least, as it fits on one half what it measures on the other"
        )


def fitted_temperature(
    evaluation: EvaluationJob, heldout: Heldout, out: Path, *, processes: int
) -> FittedTemperature:
    """Fit a temperature to the held-out annotations, or take the one that is there already.

    It stands in `metrics.temperature.json` with its manifest; a policy is loaded only to fit it,
    and its memory is free again afterwards. The halves of the cross-fit are chosen by hashed id.

    Args:
        evaluation: Whose `temperature`, if it has one, is used instead of a fit.
        heldout: The records.
        out: metrics.json.
        processes: How many share the policy's weights (`tspin.evaluate.sharing`).
    """
    path, manifest = EvaluationFiles(out).temperature, _wanted(evaluation)
    if not is_current(path, manifest):
        forget(path)
        fitted = _made(evaluation, heldout, processes)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        write_likelihoods(path, fitted.likelihoods)
        estimate = fitted.estimate and fitted.estimate.as_json()
        write_json(path, {"value": fitted.value, "estimate": estimate})
        write_manifest(path, manifest)
    return read_temperature(out)


def read_temperature(out: Path) -> FittedTemperature:
    """What `fitted_temperature` left beside metrics.json."""
    path = EvaluationFiles(out).temperature
    values = json.loads(path.read_bytes())
    estimate = values["estimate"] and Estimate(**values["estimate"])
    return FittedTemperature(values["value"], estimate, read_likelihoods(path))


def copy_temperature(source: Path, out: Path, **made: Any) -> None:
    """Put the temperature of one evaluation beside the metrics.json of another of the same policy.

    Args:
        source: metrics.json of the first.
        out: Of the other.
        made: What its manifest is to say of how it was computed.

    Raises:
        InputError: the first has none.
    """
    path, target = EvaluationFiles(source).temperature, EvaluationFiles(out).temperature
    manifest = read_manifest(path) if path.is_file() else None
    if manifest is None:
        raise InputError(f"{path}: expected the fitted temperature, with its manifest")
    if is_current(target, manifest):
        return
    forget(target)
    write_likelihoods(target, read_likelihoods(path))
    write_json(target, json.loads(path.read_bytes()))
    write_manifest(target, manifest.model_copy(update=made))


def _wanted(evaluation: EvaluationJob) -> Manifest:
    metrics, config = evaluation.wanted, evaluation.config
    parameters = {
        "temperature": evaluation.temperature,
        "max_records": config.evaluate.max_records,
        "max_length": evaluation.max_length,
        "over_long": config.prompt.over_long,
        "confidence": config.evaluate.confidence,
        **numerics(config.model, resolve_device(config.system)),
    }
    inputs = {"annotated": metrics.inputs["annotated"]}
    changes = {"kind": "temperature", "inputs": inputs, "parameters": parameters}
    return metrics.model_copy(update={**changes, "engine": None, "seed": None})


def _made(evaluation: EvaluationJob, heldout: Heldout, processes: int) -> FittedTemperature:
    identities = [record.id for record in heldout.records]
    responses = [evaluation.template.annotated_ids(held) for held in heldout.records]
    tokens = [len(response) for response in responses]
    half = {*choose(identities, len(identities) // 2)}
    asked = Temperature(
        value=evaluation.temperature,
        first=tuple(identity in half for identity in identities),
        confidence=evaluation.config.evaluate.confidence,
    )
    pairs = zip((heldout.prompts[identity] for identity in identities), responses, strict=True)
    findings = evaluation.measurement(pairs, asked).found(processes)
    if findings.fitted is not None:
        _tell(findings.fitted, findings.halves or ())
    likelihoods = {
        identity: Likelihood(logp, count)
        for identity, logp, count in zip(identities, findings.logps, tokens, strict=True)
    }
    return FittedTemperature(findings.temperature, findings.fitted, likelihoods)


def _tell(estimate: Estimate, halves: tuple[float, ...]) -> None:
    if estimate.low is None:
        log.warning(
            "the held-out annotations are likelier the further the temperature goes, to %.3g where "
            "the search ends (%g to %g): the policy hardly knows such responses, or knows them all",
            estimate.value,
            *LIMITS,
        )
        return
    log.info(
        "fitted temperature %.4g [%.4g, %.4g]; on each half of the records %.4g and %.4g",
        estimate.value,
        estimate.low,
        estimate.high,
        *halves,
    )
