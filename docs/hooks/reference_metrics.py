"""The page of metrics: their names, their units, and how each is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from reference_text import as_code, docstring_of, docstring_text, table

from tspin.records.extractors import EXTRACTORS
from tspin.report.wording import GROUPS, METHODS

__all__ = ["TRAINING_NAMES", "metrics_page"]

TRAINING_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lengths": ("lengths/ROLE",),
        "training_gaps": (),
        "training_higher_but_less_likely": ("rewards/higher_but_less_likely",),
        "training_logps": ("logps/ROLE",),
        "training_logps_per_token": ("logps_per_token/ROLE",),
        "training_loss": ("loss",),
        "training_rewards": ("rewards/ROLE",),
        "training_shares": ("rewards/accuracies", "rewards/saturated", "identical"),
    }
)
"""Group of the report to what it shows of train_log.jsonl; gaps are differences of `logps`."""

_HEAD = """# Metrics

`ROLE` is `annotated` (y), `synthetic` (y') or `proto_synthetic` (y0); the
[glossary](glossary.md) explains them. Likelihoods are in nats, natural logarithms.

## Held out: `metrics.json`

Each iteration has a `metrics.json` with a value, an interval and a number of records for every
metric. The initial policy has one as well. A name from this file can be `gate.metric`.

"""

_COMPUTED = {
    "Answers": ("evaluate", "answer_metrics"),
    "Likelihoods": ("evaluate", "likelihood_metrics"),
}
_INTERVALS = {
    "Rates": ("evaluate", "rate"),
    "Means": ("evaluate", "mean"),
    "Ratios": ("evaluate", "ratio"),
}
"""Title to the function whose docstring explains."""

_TRAINING = """
## In training: `train_log.jsonl`

Each iteration has a `train_log.jsonl` with one row for every optimiser step. Trackers
(`system.report_to`) get the same values.

"""

_SPEED = """
Trackers also get the speed. `train_log.jsonl` leaves it out, so that equal seeds give equal bytes.

"""

_EXTRACTORS = """
## Extractors

An extractor finds the verifiable answer in a text (`evaluate.extractors`). It gives one canonical
spelling, so that two answers agree when their strings are equal.

"""

_METHODS = """
## Methods

`train.method` names what is trained. Reports and comparisons use these titles.

"""


def metrics_page() -> str:
    """Held-out metrics, values of the training log, extractors and methods."""
    held_out = [group for group in GROUPS if group not in TRAINING_NAMES]
    return "".join(
        (
            _HEAD,
            table(
                ("first part of the name", "what", "unit", "reading it"),
                (
                    (as_code(name), GROUPS[name].title, GROUPS[name].unit, GROUPS[name].look_for)
                    for name in held_out
                ),
            ),
            "\n### How they are computed\n\n",
            *(_explained(title, *place) for title, place in _COMPUTED.items()),
            "### Intervals\n\n",
            *(_explained(title, *place) for title, place in _INTERVALS.items()),
            _TRAINING,
            table(("name", "what", "unit", "reading it"), map(_training_row, TRAINING_NAMES)),
            _SPEED,
            " ".join(docstring_of("train", "Speed.drain").partition("Returns:")[2].split()),
            "\n",
            _EXTRACTORS,
            table(
                ("extractor", "finds"),
                ((as_code(name), _first_sentence(find)) for name, find in EXTRACTORS.items()),
            ),
            _METHODS,
            table(("`train.method`", "title"), ((as_code(k), v) for k, v in METHODS.items())),
        )
    )


def _explained(title: str, package: str, name: str) -> str:
    return f"**{title}.** {docstring_text(docstring_of(package, name))}\n\n"


def _training_row(group: str) -> tuple[str, str, str, str]:
    names = ", ".join(map(as_code, TRAINING_NAMES[group])) or "differences of `logps/ROLE`"
    wording = GROUPS[group]
    return names, wording.title, wording.unit, wording.look_for


def _first_sentence(function: Callable[..., object]) -> str:
    return docstring_text(function.__doc__).split("\n\n")[0]
