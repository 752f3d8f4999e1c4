"""The synthetic responses of a triplet, and those among them that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tspin.errors import InputError
from tspin.records.extractors import Extractor, find_extractor
from tspin.records.records import FurtherSample, Triplet

__all__ = ["Selection", "all_samples", "right_samples", "selection"]

Selection = Callable[[Triplet], Sequence[FurtherSample]]
"""From a triplet to the samples that are trained on beside its annotation."""


def all_samples(triplet: Triplet) -> list[FurtherSample]:
    """Every y' of a triplet, the first one too."""
    first = FurtherSample(
        response=triplet.synthetic,
        finish_reason=triplet.synthetic_finish_reason,
        special_tokens=triplet.synthetic_special_tokens,
    )
    return [first, *(triplet.further_synthetic or ())]


def right_samples(
    annotation: str, samples: Sequence[FurtherSample], extract: Extractor, *, most: int | None
) -> list[FurtherSample]:
    """The samples of rejection sampling fine-tuning, section 3.3 of arXiv 2308.01825.

    Those that came to an end and give the annotation's answer, each text once, in their order. The
    paper takes two for the same where their lists of equations are; here they are where their words
    are, so that any extractor will do. A text that is the annotation's is in the data already.

    Args:
        annotation: The expert's response; where no answer is found in it, no sample is right.
        samples: What the policy responded to the same prompt.
        extract: The answer of a response, None where there is none.
        most: So many at most, the first ones; None takes all.
    """
    answer = extract(annotation)
    if answer is None:
        return []
    seen, right = {_words(annotation)}, list[FurtherSample]()
    for sample in samples:
        words = _words(sample.response)
        if (
            sample.finish_reason == "stop"
            and words not in seen
            and extract(sample.response) == answer
        ):
            seen.add(words)
            right.append(sample)
    return right[:most]


def selection(method: str, extractor: str | None, most: int | None) -> Selection | None:
    """What a method trains on beside the annotations; None where that is not for it to choose.

    Args:
        method: As `train.method` names it.
        extractor: As `train.rft_extractor` names it.
        most: `train.rft_cap`.

    Raises:
        InputError: the method chooses right responses, and no extractor says which they are.
    """
    if method != "rft":
        return None
    if extractor is None:
        raise InputError(
            "method 'rft' needs train.rft_extractor: it says which responses are right"
        )
    extract = find_extractor(extractor)
    return lambda triplet: right_samples(
        triplet.annotated, all_samples(triplet), extract, most=most
    )


def _words(text: str) -> str:
    return " ".join(text.split())
