"""What the answers to a set are worth, by the skill's own verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from benchmarks.reproduction.skills import SKILLS, Item
from tspin.records.records import Response, read_records

__all__ = ["score"]


def score(metrics: Path, skill: str, known: Mapping[str, Item]) -> dict[str, float]:
    """Shares of right answers of an evaluation, and how diverse its samples are.

    Args:
        metrics: metrics.json of the evaluation; the answers lie beside it.
        skill: Whose records were answered.
        known: Their items by id.

    Returns:
        `right/MODE`: the substance is right in whatever wording; `annotated/MODE`: right in every
        step and in the annotator's form; `distinct_bigrams`: different pairs of words in a row
        over all such pairs of the samples; `differs_from_greedy`: share of samples that are not
        the greedy answer.
    """
    texts = {
        mode: {
            response.id: response.response
            for response in read_records(metrics.with_name(f"metrics.{mode}.jsonl"), Response)
        }
        for mode in ("greedy", "sampled")
    }
    verifier, found = SKILLS[skill], {}
    for mode, by_id in texts.items():
        right = [verifier.is_right(item, by_id[name]) for name, item in known.items()]
        annotated = [verifier.is_annotated(item, by_id[name]) for name, item in known.items()]
        found[f"right/{mode}"] = sum(right) / len(known)
        found[f"annotated/{mode}"] = sum(annotated) / len(known)
    words = [text.split() for text in texts["sampled"].values()]
    pairs = [pair for text in words for pair in pairwise(text)]
    found["distinct_bigrams"] = len({*pairs}) / len(pairs) if pairs else 0.0
    differ = sum(text != texts["greedy"][name] for name, text in texts["sampled"].items())
    found["differs_from_greedy"] = differ / len(known)
    return found
