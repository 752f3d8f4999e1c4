"""Items of every skill from seeds alone: records, corpora, and what answers to them are worth."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path

from study.skills import SKILLS, Item, Skill, Split, split_of
from tspin.demo.corpus import Exercise
from tspin.records.records import AnnotatedRecord, Message, Response, read_records, write_records

__all__ = ["corpus", "items", "named_items", "score", "write_annotated"]


def items(skill: str, split: Split, count: int, *, skip: int = 0) -> list[Item]:
    """Items of a split, no two of the same substance, always the same.

    Args:
        skill: Name in `SKILLS`.
        split: Which items.
        count: How many.
        skip: How many items of the split to leave out, first of all.
    """
    drawn = _distinct(SKILLS[skill], random.Random(f"{skill}-{split}"), split)
    return list(islice(drawn, skip, skip + count))


def corpus(seed: int, *, form: str | None = None, share: float = 0.0) -> Iterator[Exercise]:
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
            yield Exercise(item.prompt, answer)


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
    annotator = SKILLS[skill]
    write_records(
        path,
        (
            AnnotatedRecord(
                id=name,
                messages=[Message(role="user", content=item.prompt)],
                response=annotator.base_answer(item, random.Random(item.key))
                if own
                else annotator.annotation(item),
            )
            for name, item in named_items(skill, split, count, skip=skip).items()
        ),
    )


def named_items(skill: str, split: Split, count: int, *, skip: int = 0) -> dict[str, Item]:
    """The same as `items`, by the ids of their records.

    Args:
        skill: Name in `SKILLS`.
        split: Which items.
        count: How many.
        skip: How many items of the split to leave out; ids count on from there.
    """
    drawn = items(skill, split, count, skip=skip)
    return {f"{skill}-{split}-{number:05d}": item for number, item in enumerate(drawn, start=skip)}


def _distinct(skill: Skill, rng: random.Random, split: Split) -> Iterator[Item]:
    seen: set[str] = set()
    while True:
        item = skill.draw(rng)
        if split_of(item.key) == split and item.key not in seen:
            seen.add(item.key)
            yield item


def score(metrics: Path, skill: str, asked: Mapping[str, Item]) -> dict[str, float]:
    """Shares of right answers of an evaluation, and how diverse its samples are.

    Args:
        metrics: metrics.json of the evaluation; the answers lie beside it.
        skill: Whose records were answered.
        asked: Their items by id.

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
    verifier = SKILLS[skill]
    scores: dict[str, float] = {}
    for mode, by_id in texts.items():
        right = [verifier.is_right(item, by_id[name]) for name, item in asked.items()]
        annotated = [verifier.is_annotated(item, by_id[name]) for name, item in asked.items()]
        scores[f"right/{mode}"] = sum(right) / len(asked)
        scores[f"annotated/{mode}"] = sum(annotated) / len(asked)
    words = [text.split() for text in texts["sampled"].values()]
    pairs = [pair for text in words for pair in pairwise(text)]
    scores["distinct_bigrams"] = len({*pairs}) / len(pairs) if pairs else 0.0
    differ = sum(text != texts["greedy"][name] for name, text in texts["sampled"].items())
    scores["differs_from_greedy"] = differ / len(asked)
    return scores
