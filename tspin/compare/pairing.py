"""Differences between two policies on the same records, and whether each answer was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tspin.errors import InputError
from tspin.evaluate.intervals import ratio
from tspin.evaluate.likelihoods import read_likelihoods
from tspin.records.estimate import Estimate
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, Response, read_records
from tspin.runs.folder import EvaluationFiles

__all__ = ["ByRecord", "fitted_nll", "nll", "paired_difference", "rightness"]

ByRecord = Mapping[str, tuple[float, int]]
"""By record id a total and its weight: nats and tokens, or 1 for right and 1."""


def rightness(metrics: Path, annotated: Path, extractor: str, mode: str) -> ByRecord:
    """By record id, 1 where the answer kept beside `metrics` agrees with the annotation, else 0.

    Records whose annotation holds no answer are left out, as in `answer_metrics`.

    Args:
        metrics: metrics.json of an evaluation.
        annotated: What was evaluated on.
        extractor: Finds the answers (`tspin.records.extractors`).
        mode: 'greedy', 'sampled' or 'fitted'.
    """
    extract = find_extractor(extractor)
    answers = {
        response.id: extract(response.response)
        for response in read_records(EvaluationFiles(metrics).answers(mode), Response)
    }
    expected = (
        (record.id, extract(record.response)) for record in read_records(annotated, AnnotatedRecord)
    )
    return {
        identity: (float(answers[identity] == answer), 1)
        for identity, answer in expected
        if answer and identity in answers
    }


def nll(metrics: Path) -> ByRecord:
    """By record id, negative log-likelihood of the annotation in nats, and its tokens."""
    likelihoods = read_likelihoods(metrics)
    return {
        identity: (-likelihood.logp, likelihood.tokens)
        for identity, likelihood in likelihoods.items()
    }


def fitted_nll(metrics: Path) -> ByRecord:
    """As `nll`, at the fitted temperature."""
    return nll(EvaluationFiles(metrics).temperature)


def paired_difference(pairs: Sequence[tuple[ByRecord, ByRecord]], *, confidence: float) -> Estimate:
    """Difference of two policies over the records, each record averaged over the seeds.

    The records are the independent draws: the interval (`ratio` over the records'
    differences) says how the two compare on other records of the same kind, from these very
    seeds. How much another seed would change is the business of the differences over seeds.

    Args:
        pairs: One pair a seed, each by record id.
        confidence: Such as 0.95.

    Raises:
        InputError: the two were not measured on the same records.
    """
    first = pairs[0][0]
    weights = {identity: weight for identity, (_, weight) in first.items()}
    for side in (side for pair in pairs for side in pair):
        if not first or {identity: weight for identity, (_, weight) in side.items()} != weights:
            raise InputError("these evaluations are not of the same records; compare them anew")
    differences = [
        sum(one[identity][0] - other[identity][0] for one, other in pairs) / len(pairs)
        for identity in weights
    ]
    return ratio(differences, list(weights.values()), confidence=confidence)
