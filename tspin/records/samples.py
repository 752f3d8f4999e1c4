"""The synthetic responses of a triplet, and those among them that are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tspin.errors import InputError
from tspin.records.extractors import Extractor, find_extractor
from tspin.records.records import AnnotatedRecord, FurtherSample, Triplet

__all__ = [
    "EARLIER",
    "Selection",
    "all_samples",
    "generated_samples",
    "right_samples",
    "selection",
    "with_demonstration",
]

EARLIER = "earlier_synthetic"
"""The role of each response of a policy between those of y0 and y'."""

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


def generated_samples(triplet: Triplet, roles: Sequence[str]) -> list[FurtherSample]:
    """What policies responded: every y', then y0 and those between, as far as a method reads them.

    Raises:
        InputError: `roles` name other than as many policies between.
    """
    earlier = triplet.earlier_synthetic or [] if EARLIER in roles else []
    if len(earlier) != roles.count(EARLIER):
        raise InputError(
            f"record {triplet.id!r} has {len(earlier)} responses in '{EARLIER}'; method "
            f"'tspin_all' needs {roles.count(EARLIER)} in this iteration, one of each policy "
            "between the first and the current one: give their files to build-triplets, with "
            "--earlier for each"
        )
    proto = FurtherSample(
        response=triplet.proto_synthetic,
        finish_reason=triplet.proto_synthetic_finish_reason,
        special_tokens=triplet.proto_synthetic_special_tokens,
    )
    return [*all_samples(triplet), *([proto] if len(roles) > 2 else []), *earlier]


def with_demonstration(
    record: AnnotatedRecord | Triplet, template: str
) -> AnnotatedRecord | Triplet:
    """The record with its annotation in the last turn of its prompt, as a demonstration.

    Args:
        record: With its annotation; a thought and calls of tools are part of that.
        template: As `train.sdft_template`, with `{prompt}` and `{demonstration}`.
    """
    if isinstance(record, Triplet):
        calls, said = record.annotated_tool_calls, [record.annotated_reasoning_content]
        said.append(record.annotated)
    else:
        calls, said = record.tool_calls, [record.reasoning_content, record.response]
    said += [json.dumps(call, ensure_ascii=False) for call in calls or ()]
    *before, last = record.messages
    content = template.format(
        prompt=last.content, demonstration="\n".join(part for part in said if part)
    )
    shown = last.model_copy(update={"content": content})
    return record.model_copy(update={"messages": [*before, shown]})


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
