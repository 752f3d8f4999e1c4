"""What the answers to a set are worth, by the skill's own verifiers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from benchmarks.reproduction.data import items, record_id
from benchmarks.reproduction.skills import SKILLS
from tspin.records import Response, read_records

__all__ = ["score"]


def score(metrics: Path, skill: str, count: int, skip: int) -> dict[str, float]:
    """Shares of right answers of an evaluation on the test records, and how diverse samples are.

    Args:
        metrics: metrics.json of the evaluation; the answers lie beside it.
        skill: Whose test records were answered.
        count: How many there were.
        skip: How many of the split were left out before them.

    Returns:
        `right/MODE`: the substance is right in whatever wording; `annotated/MODE`: right in every
        step and in the annotator's form; `distinct_bigrams`: different pairs of words in a row
        over all such pairs of the samples; `differs_from_greedy`: share of samples that are not
        the greedy answer.
    """
    known = items(skill, "test", count, skip=skip)
    texts = {
        mode: {
            response.id: response.response
            for response in read_records(metrics.with_name(f"metrics.{mode}.jsonl"), Response)
        }
        for mode in ("greedy", "sampled")
    }
    verifier, found = SKILLS[skill], {}
    named = [(record_id(skill, "test", at), item) for at, item in enumerate(known, start=skip)]
    for mode, by_id in texts.items():
        right = [verifier.is_right(item, by_id[name]) for name, item in named]
        annotated = [verifier.is_annotated(item, by_id[name]) for name, item in named]
        found[f"right/{mode}"] = sum(right) / len(named)
        found[f"annotated/{mode}"] = sum(annotated) / len(named)
    words = [text.split() for text in texts["sampled"].values()]
    pairs = [pair for text in words for pair in pairwise(text)]
    found["distinct_bigrams"] = len({*pairs}) / len(pairs) if pairs else 0.0
    differ = sum(text != texts["greedy"][name] for name, text in texts["sampled"].items())
    found["differs_from_greedy"] = differ / len(named)
    return found
