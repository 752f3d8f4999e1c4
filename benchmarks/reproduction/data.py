"""Records and corpora of the study, from seeds alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.reproduction.skills import SKILLS, Item, Skill, Split, split_of
from tspin.demo.corpus import Example
from tspin.records.records import AnnotatedRecord, Message, write_records

__all__ = ["corpus", "items", "named_items", "write_annotated"]


def items(skill: str, split: Split, count: int, *, skip: int = 0) -> list[Item]:
    """Items of a split behind the first `skip`, no two of the same substance, always the same."""
    drawn = _distinct(SKILLS[skill], random.Random(f"{skill}-{split}"), split)
    return list(islice(drawn, skip, skip + count))


def corpus(seed: int, *, form: str | None = None, share: float = 0.0) -> Iterator[Example]:
    """The pre-training corpus: all skills in turn, items of the split `train` alone.

    Args:
        seed: Decides it.
        form: The skill of which some answers are the annotator's; else none ever is.
        share: Of that skill's answers.
    """
    rng = random.Random(f"pretraining-{seed}" if form is None else f"tuning-{form}-{seed}")
    while True:
        name = rng.choice(list(SKILLS))
        skill = SKILLS[name]
        item = skill.draw(rng)
        if split_of(item.key) == "train":
            annotated = name == form and rng.random() < share
            answer = skill.annotation(item) if annotated else skill.base_answer(item, rng)
            yield Example(item.prompt, answer)


def write_annotated(
    path: Path, skill: str, split: Split, count: int, *, skip: int = 0, own: bool = False
) -> None:
    """Annotated records of one split; equal arguments give equal bytes.

    Args:
        path: The file.
        skill: Name in `SKILLS`.
        split: Which items.
        count: How many.
        skip: How many items of the split to leave out.
        own: Answers as the bases learned to give them, slips among them, instead of the
            annotator's: likelihood of these is what a base can forget.
    """
    known = SKILLS[skill]
    write_records(
        path,
        (
            AnnotatedRecord(
                id=name,
                messages=[Message(role="user", content=item.prompt)],
                response=known.base_answer(item, random.Random(item.key))
                if own
                else known.annotation(item),
            )
            for name, item in named_items(skill, split, count, skip=skip).items()
        ),
    )


def named_items(skill: str, split: Split, count: int, *, skip: int = 0) -> dict[str, Item]:
    """The same as `items`, by the ids of their records."""
    found = items(skill, split, count, skip=skip)
    return {f"{skill}-{split}-{number:05d}": item for number, item in enumerate(found, start=skip)}


def _distinct(skill: Skill, rng: random.Random, split: Split) -> Iterator[Item]:
    seen: set[str] = set()
    while True:
        item = skill.draw(rng)
        if split_of(item.key) == split and item.key not in seen:
            seen.add(item.key)
            yield item
