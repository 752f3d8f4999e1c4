"""From what was measured on each held-out record to named metrics with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose

from tspin.errors import InputError
from tspin.evaluate.intervals import mean, rate, ratio
from tspin.records.estimate import Estimate, Likelihood
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, Response

__all__ = [
    "Metrics",
    "answer_metrics",
    "likelihood_metrics",
    "verifiable_answers",
]

Metrics = dict[str, Estimate]

_ROUNDING = 1e-5
"""Relative; one response computed in two batches differs by less, in float32."""


def verifiable_answers(
    records: Sequence[AnnotatedRecord], extractors: Sequence[str]
) -> dict[str, dict[str, str]]:
    """By extractor, the right answers by record id; records without one are left out.

    Raises:
        InputError: an extractor is unknown, or finds an answer in no annotation at all.
    """
    answers = {}
    for name in extractors:
        extract = find_extractor(name)
        by_id = {record.id: extract(record.response) for record in records}
        answers[name] = {identity: answer for identity, answer in by_id.items() if answer}
        if not answers[name]:
            raise InputError(
                f"evaluate.extractors: {name!r} finds an answer in none of the {len(records)} "
                f"held-out annotations; the first begins {records[0].response[:60]!r}"
            )
    return answers


def answer_metrics(
    responses: Mapping[str, Response],
    expected: Mapping[str, Mapping[str, str]],
    *,
    mode: str,
    confidence: float,
) -> Metrics:
    """Exact match per extractor, mean length and share of truncated responses of one decoding.

    A record whose annotation holds no answer that an extractor finds says nothing about the
    policy and does not count: `n` is the number of those that do. A response without an answer,
    where the annotation has one, is wrong.

    Args:
        responses: By id, what the policy answered to each held-out record.
        expected: Of `verifiable_answers`.
        mode: 'greedy', 'sampled' or 'fitted', the last part of each metric's name.
        confidence: Of the intervals.
    """
    metrics: Metrics = {}
    for name, answers in expected.items():
        extract = find_extractor(name)
        right = sum(
            extract(responses[identity].response) == answer for identity, answer in answers.items()
        )
        metrics[f"exact_match/{name}/{mode}"] = rate(right, len(answers), confidence=confidence)
    lengths = [response.response_tokens for response in responses.values()]
    cut = sum(response.finish_reason == "length" for response in responses.values())
    metrics[f"response_tokens/{mode}"] = mean(lengths, confidence=confidence)
    metrics[f"truncated/{mode}"] = rate(cut, len(responses), confidence=confidence)
    return metrics


def likelihood_metrics(
    likelihoods: Mapping[str, Mapping[str, Likelihood]], *, confidence: float
) -> Metrics:
    """Likelihoods of y, y' and y0 and the gaps between them, in nats.

    `nll_per_token` is over all annotated tokens together, so a long response weighs more than a
    short one (interval: ratio estimator over records). `logps/*` are means over records of the
    summed log-probability, `logps_per_token/*` means over records of each record's own mean.
    `response_tokens/annotated` leaves out the end token, as generated lengths do.
    `accuracies/a_b` is the share of records with logp(a) > logp(b); equal ones do not count as
    greater, nor do those whose gap is rounding (the same response, twice, in other batches).

    Args:
        likelihoods: Role ('annotated', and where there are such responses 'synthetic' and
            'proto_synthetic') to record id to likelihood. Responses without a single token
            have no likelihood and are left out by the caller.
        confidence: Of the intervals.
    """
    annotated = list(likelihoods["annotated"].values())
    metrics: Metrics = {
        "nll_per_token": ratio(
            [-likelihood.logp for likelihood in annotated],
            [likelihood.tokens for likelihood in annotated],
            confidence=confidence,
        ),
        "response_tokens/annotated": mean(
            [likelihood.tokens - 1 for likelihood in annotated], confidence=confidence
        ),
    }
    for role, by_id in likelihoods.items():
        if not by_id:
            continue
        each_logp = [likelihood.logp for likelihood in by_id.values()]
        per_token = [likelihood.logp / likelihood.tokens for likelihood in by_id.values()]
        metrics[f"logps/{role}"] = mean(each_logp, confidence=confidence)
        metrics[f"logps_per_token/{role}"] = mean(per_token, confidence=confidence)
    for better, worse in (("annotated", "synthetic"), ("synthetic", "proto_synthetic")):
        a, b = likelihoods.get(better, {}), likelihoods.get(worse, {})
        both = [
            (likelihood.logp, b[identity].logp)
            for identity, likelihood in a.items()
            if identity in b
        ]
        if both:
            gaps = [first - second for first, second in both]
            above = sum(x > y and not isclose(x, y, rel_tol=_ROUNDING) for x, y in both)
            metrics[f"margins/{better}_{worse}"] = mean(gaps, confidence=confidence)
            metrics[f"accuracies/{better}_{worse}"] = rate(above, len(gaps), confidence=confidence)
    return metrics
