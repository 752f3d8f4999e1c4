"""The report's words: what each measurement is called, its unit, and what to look for in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tspin.records.estimate import Estimate

__all__ = [
    "GROUPS",
    "GUARDS",
    "METHODS",
    "Wording",
    "is_share",
    "metric_title",
    "rank",
    "series_title",
    "shown",
]


@dataclass(frozen=True)
class Wording:
    """Title, axis and guidance of one figure."""

    title: str
    unit: str
    look_for: str
    share: bool = False


METHODS: Mapping[str, str] = MappingProxyType(
    {
        "tspin": "T-SPIN",
        "tspin_no_history": "T-SPIN without history",
        "tspin_all": "T-SPIN against all earlier policies",
        "tspin_ref": "T-SPIN with a reference",
        "spin": "SPIN",
        "space": "SPACE",
        "sdft": "Self-distillation fine-tuning",
        "rft": "Rejection sampling fine-tuning",
        "sft": "Supervised fine-tuning",
    }
)

_SERIES = {
    "annotated": "y (annotated)",
    "synthetic": "y\u2032 (current policy)",
    "proto_synthetic": "y\u2080 (initial policy)",
    "annotated_synthetic": "y over y\u2032",
    "synthetic_proto_synthetic": "y\u2032 over y\u2080",
    "margins/annotated_synthetic": "logp(y) \u2212 logp(y\u2032)",
    "margins/synthetic_proto_synthetic": "logp(y\u2032) \u2212 logp(y\u2080)",
    "accuracies": "reward of y above that of y\u2032",
    "saturated": "saturated: no gradient left",
    "identical": "y\u2032 identical to y",
    "fitted": "at the fitted temperature",
    "": "at temperature 1",
}

GROUPS: Mapping[str, Wording] = MappingProxyType(
    {
        "exact_match": Wording(
            "Exact match",
            "share of answers",
            "Look for all lines to rise; where greedy is well above sampled, the model prefers "
            "the right answer but does not give it reliably. Where there is a line at the fitted "
            "temperature above sampled, that temperature is the one to serve the model at.",
            share=True,
        ),
        "nll_per_token": Wording(
            "Negative log-likelihood of held-out annotations",
            "nats a token",
            "Look for a fall; a rise says that the model moves away from the annotations, however "
            "good its preference figures look. A line at the fitted temperature well below the "
            "other says that the model is more, or less, certain than it has reason to be.",
        ),
        "temperature": Wording(
            "Temperature fitted to held-out annotations",
            "temperature",
            "Look for a line near 1. Below it the model is less certain than the annotations "
            "allow; above it, more certain than it is right to be, and training has gone too far.",
        ),
        "accuracies": Wording(
            "Which response is more likely, held out",
            "share of prompts",
            "Look for y over y\u2032 to rise and stay up, and for y\u2032 over y\u2080 above a "
            "half: the model prefers what it writes now to what it wrote at first.",
            share=True,
        ),
        "lm_eval": Wording(
            "lm-eval",
            "score",
            "Look for a line that rises, or holds; a fall says that something is unlearnt.",
        ),
        "truncated": Wording(
            "Responses cut off at the token limit",
            "share of responses",
            "Look for a line near zero; a rise says that the model forgets how to stop.",
            share=True,
        ),
        "logps_per_token": Wording(
            "Log-likelihood per token, held out",
            "nats a token",
            "Look for y to rise or hold; if all three fall together, the model is breaking.",
        ),
        "margins": Wording(
            "Gaps on held-out prompts",
            "nats",
            "How much likelier one response is than another after each iteration, y\u2032 being "
            "sampled anew: look for y to catch up with y\u2032, and y\u2032 to pass y\u2080.",
        ),
        "training_gaps": Wording(
            "Gaps at the end of each iteration's training",
            "nats",
            "The same gaps on the training triplets: look for both above zero at every iteration; "
            "without a history term the second may drift below.",
        ),
        "response_tokens": Wording(
            "Response length on held-out prompts",
            "tokens",
            "Look for generated lengths that approach the annotation's; running far above it or "
            "towards nothing are both signs of a broken model.",
        ),
        "lengths": Wording(
            "Length of the responses trained on",
            "tokens",
            "Look for y\u2032 moving from the length of y\u2080 to that of y.",
        ),
        "training_logps": Wording(
            "Log-likelihood of whole responses",
            "nats",
            "Look for y above y\u2032 at the end of each iteration; a fall of y over the run "
            "is the first sign of trouble.",
        ),
        "training_logps_per_token": Wording(
            "Log-likelihood per token",
            "nats a token",
            "The same, free of the responses' lengths: look for y that does not fall.",
        ),
        "training_rewards": Wording(
            "Rewards",
            "nats",
            "Look for y above y\u2032. T-SPIN's reward is alpha times the log-likelihood, so this "
            "agrees with the figures above; a reward against a reference, as in SPIN, need not.",
        ),
        "training_higher_but_less_likely": Wording(
            "Higher reward, yet less likely",
            "share of samples",
            "Samples where y has the higher reward but the lower likelihood than y\u2032: look for "
            "a line at or near zero; what is above it is trained on but would not be generated.",
            share=True,
        ),
        "training_shares": Wording(
            "How much is left to learn",
            "share of samples",
            "Look for the reward of y winning more and more, before the saturated share, where "
            "training stands still, comes near one.",
            share=True,
        ),
        "training_loss": Wording(
            "Training loss",
            "loss",
            "Look for a fall within each iteration; it starts anew with each, as y\u2032 is new.",
        ),
    }
)


def rank(metric: str) -> int:
    """Where a metric or group comes among others: known ones as they stand above, others last."""
    group = metric.split("/")[0]
    return list(GROUPS).index(group) if group in GROUPS else len(GROUPS)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of something, to be shown in percent."""
    group = GROUPS.get(metric.split("/")[0])
    return group is not None and group.share


def series_title(series: str) -> str:
    """What one line of a figure is called in its legend."""
    return _SERIES.get(series, series)


def metric_title(metric: str) -> str:
    """A metric's or a group's name in words; an unknown one keeps its own."""
    group, *rest = metric.split("/")
    if (rest and metric in _SERIES) or group not in GROUPS:
        return _SERIES.get(metric, metric)
    return ", ".join([GROUPS[group].title, *map(series_title, rest)])


def shown(metric: str, estimate: Estimate) -> tuple[str, str]:
    """Value and interval as the tables print them; the interval may be empty."""
    style, factor, sign = (".1f", 100, "%") if is_share(metric) else (".4g", 1, "")
    value = f"{estimate.value * factor:{style}}{sign}"
    if estimate.low is None or estimate.high is None:
        return value, ""
    return value, f"{estimate.low * factor:{style}} to {estimate.high * factor:{style}}"


GUARDS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_logps_drop": (
            "at {count} logged steps logp(y) stood more than {threshold:g} nats a token below its "
            "start, so the policy unlearns the annotations, however good its margins look."
        ),
        "saturated_share": (
            "at {count} logged steps more than {threshold:.0%} of the samples had such a margin "
            "that their gradient vanishes, so more training on them teaches little."
        ),
        "length_drift": (
            "the mean lengths of y\u2032 and y lie apart by more than a factor of {threshold:g}."
        ),
    }
)
"""Setting in `train.guards` to the sentence when it was passed."""
