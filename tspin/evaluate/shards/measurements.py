"""What a policy gave for held-out records, before it is summed up: of all, or of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.config import EvaluateConfig
from tspin.errors import InputError
from tspin.evaluate.job import Mode
from tspin.evaluate.likelihoods import write_likelihoods
from tspin.evaluate.metrics import (
    Metrics,
    answer_metrics,
    likelihood_metrics,
    verifiable_answers,
)
from tspin.evaluate.tasks import TaskResults
from tspin.evaluate.temperature import FittedTemperature
from tspin.files import read_object, write_json
from tspin.records.estimate import Likelihood
from tspin.records.manifest import Manifest, write_manifest
from tspin.records.records import AnnotatedRecord, Response, write_records
from tspin.runs.folder import EvaluationFiles
from tspin.runs.samples import SHOWN
from tspin.seeds import choose

__all__ = ["Measurements", "read_shard", "write_evaluation", "write_shard"]

Likelihoods = Mapping[str, Mapping[str, Likelihood]]
"""By role ('annotated', 'synthetic', 'proto_synthetic') and record id."""


@dataclass(frozen=True)
class Measurements:
    """Answers and likelihoods, in the order of the records."""

    records: Sequence[AnnotatedRecord]
    dropped: list[str]
    """Ids of the records left out for their length; those of all shards."""
    answers: Mapping[Mode, Mapping[str, Response]]
    likelihoods: Likelihoods
    temperature: FittedTemperature | None

    def metrics(self, settings: EvaluateConfig) -> Metrics:
        """All metrics but those of tasks; a further kind of measurement is one more `|=` here."""
        expected = verifiable_answers(self.records, settings.extractors)
        confidence = settings.confidence
        metrics: Metrics = {}
        if self.temperature is not None:
            metrics |= self.temperature.metrics(confidence=confidence)
        for mode, by_id in self.answers.items():
            metrics |= answer_metrics(by_id, expected, mode=mode, confidence=confidence)
        return metrics | likelihood_metrics(self.likelihoods, confidence=confidence)


def write_evaluation(
    out: Path,
    manifest: Manifest,
    measurements: Measurements,
    settings: EvaluateConfig,
    tasks: TaskResults,
) -> None:
    """Write metrics.json with its manifest, and before it the likelihoods and a few records.

    Args:
        out: metrics.json; answers, temperature and tasks stand beside it already.
        manifest: Of it, but for its counts.
        measurements: Of all records.
        settings: What was asked for.
        tasks: The results of the tasks.
    """
    metrics = measurements.metrics(settings) | tasks.metrics()
    write_likelihoods(out, measurements.likelihoods["annotated"])
    _write_samples(measurements.records, out)
    result = {
        "iteration": manifest.iteration,
        "model": manifest.model,
        "records": len(measurements.records),
        "metrics": {name: estimate.as_json() for name, estimate in metrics.items()},
        **tasks.details(),
    }
    write_json(out, result)
    _finish(out, manifest, measurements)


def write_shard(out: Path, manifest: Manifest, measurements: Measurements) -> None:
    """Write a part of an evaluation: which records it has, and their likelihoods.

    Args:
        out: Where it goes; answers, temperature and tasks stand beside it already.
        manifest: Of it, but for its counts.
        measurements: Of its records.
    """
    likelihoods = {
        role: {identity: [one.logp, one.tokens] for identity, one in by_id.items()}
        for role, by_id in measurements.likelihoods.items()
    }
    records = [record.id for record in measurements.records]
    write_json(
        out,
        {
            "iteration": manifest.iteration,
            "model": manifest.model,
            "records": records,
            "likelihoods": likelihoods,
        },
    )
    _finish(out, manifest, measurements)


def read_shard(path: Path) -> tuple[list[str], Likelihoods]:
    """The ids of a shard's records, and their likelihoods.

    Raises:
        InputError: something else stands there.
    """
    content: dict[str, Any] = read_object(path)
    try:
        likelihoods = {
            role: {identity: Likelihood(*one) for identity, one in by_id.items()}
            for role, by_id in content["likelihoods"].items()
        }
        return list(content["records"]), likelihoods
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a shard of an evaluation: {error!r}") from None


def _finish(out: Path, manifest: Manifest, measurements: Measurements) -> None:
    dropped = measurements.dropped
    counts = {"records": len(measurements.records), "over_long": len(dropped)}
    results = {"counts": counts, "dropped_ids": {"over_long": dropped} if dropped else {}}
    write_manifest(out, manifest.model_copy(update=results))


def _write_samples(records: Sequence[AnnotatedRecord], out: Path) -> None:
    """Prompts and annotations of a few records, so that a run folder can be read by itself."""
    by_id = {record.id: record for record in records}
    write_records(
        EvaluationFiles(out).samples, [by_id[identity] for identity in choose(by_id, SHOWN)]
    )
