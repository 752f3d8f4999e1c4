"""The held-out records that are asked, and what should come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tspin.errors import InputError
from tspin.records.estimate import Estimate
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, Response, read_records

__all__ = ["Comparison", "Expected", "compare"]

_METRIC = "exact_match/{}/greedy"


@dataclass(frozen=True)
class Expected:
    """The prompts, and how the champion did on them."""

    records: Sequence[AnnotatedRecord]
    answers: Mapping[str, str] | None
    """By id, what an evaluation saw; None where that is not at hand."""
    metrics: Mapping[str, Estimate]
    """Of the champion's record."""
    extractors: tuple[str, ...]

    @classmethod
    def read(
        cls,
        heldout: Path,
        answers: Path | None,
        metrics: Mapping[str, Estimate],
        extractors: tuple[str, ...],
        *,
        most: int | None,
    ) -> Expected:
        """Read the records; with answers of an evaluation, those that it asked.

        Args:
            heldout: Annotated records.
            answers: `metrics.greedy.jsonl` of the evaluation, or None.
            metrics: Of the champion's record; none where there is no registry.
            extractors: What finds the answer in a text.
            most: So many records, the first ones; None takes all.

        Raises:
            InputError: a file is missing or damaged, or they are of different records.
        """
        records = list(read_records(heldout, AnnotatedRecord))
        seen = None
        if answers is not None:
            seen = {r.id: r.response for r in read_records(answers, Response) if r.sample == 0}
            if missing := seen.keys() - {record.id for record in records}:
                raise InputError(
                    f"{answers}: answers the id {min(missing)!r}, which {heldout} does not hold; "
                    "give the held-out records that were evaluated"
                )
            records = [record for record in records if record.id in seen]
        if not records:
            raise InputError(f"{heldout}: holds no record to ask")
        expected = cls(records[:most], seen, metrics, extractors)
        if most is None and seen is None:
            expected._refuse_other_records(heldout)
        return expected

    def _refuse_other_records(self, heldout: Path) -> None:
        for extractor in self.extractors:
            right, measured = self._right(extractor), self.metrics[_METRIC.format(extractor)].n
            if len(right) != measured:
                raise InputError(
                    f"{heldout}: {len(right)} of its records have an answer that {extractor!r} "
                    f"finds, and the champion was measured on {measured}; give the records that it "
                    "was measured on, or the evaluation's metrics.greedy.jsonl with --answers"
                )

    def _right(self, extractor: str) -> dict[str, str]:
        extract = find_extractor(extractor)
        found = {record.id: extract(record.response) for record in self.records}
        return {identity: answer for identity, answer in found.items() if answer}


@dataclass(frozen=True)
class Comparison:
    """One number, as it was measured and as it is served."""

    name: str
    measured: float
    served: float
    n: int

    def holds(self, margin: float) -> bool:
        """Whether what is served is not worse by more than the margin.

        Both are shares of n: a hair of rounding is no difference.
        """
        return self.served >= self.measured - margin - 1e-9


def compare(expected: Expected, served: Mapping[str, str]) -> list[Comparison]:
    """What was measured against what is served.

    Args:
        expected: The records, and how the champion did on them.
        served: By id, what the endpoint answered.
    """
    comparisons = []
    for extractor in expected.extractors:
        right, extract = expected._right(extractor), find_extractor(extractor)
        if not right:
            raise InputError(f"{extractor!r} finds an answer in none of the records' annotations")
        hits = sum(extract(served[identity]) == answer for identity, answer in right.items())
        if expected.answers is not None:
            seen = sum(extract(expected.answers[i]) == answer for i, answer in right.items())
            measured = seen / len(right)
        else:
            measured = expected.metrics[_METRIC.format(extractor)].value
        comparisons.append(
            Comparison(_METRIC.format(extractor), measured, hits / len(right), len(right))
        )
    if expected.answers is not None:
        same = sum(_words(served[r.id]) == _words(expected.answers[r.id]) for r in expected.records)
        n = len(expected.records)
        comparisons.append(Comparison("same greedy answer", 1.0, same / n, n))
    return comparisons


def _words(text: str) -> str:
    """Without what decoders differ in: white space, and a last character that was cut."""
    return " ".join(text.rstrip("\ufffd").split())
