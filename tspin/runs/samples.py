"""A handful of prompts with what was written to them, iteration by iteration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.records.manifest import manifest_path
from tspin.records.records import (
    AnnotatedRecord,
    FinishReason,
    Message,
    Response,
    Triplet,
    read_records,
    write_records,
)
from tspin.runs.folder import BASE, EvaluationFiles, RunFolder
from tspin.seeds import choose

__all__ = [
    "SHOWN",
    "Sample",
    "Shown",
    "heldout_samples",
    "training_samples",
    "write_shown",
]

SHOWN = 6
"""Prompts that a report shows with the responses to them."""


@dataclass(frozen=True)
class Shown:
    """One response as the report shows it."""

    role: str
    """'annotated', 'synthetic' or 'proto_synthetic'."""
    title: str
    text: str
    truncated: bool = False


@dataclass(frozen=True)
class Sample:
    """One prompt and the responses to it, side by side."""

    messages: list[Message]
    responses: tuple[Shown, ...]


def heldout_samples(folder: RunFolder, numbers: Sequence[int]) -> tuple[Sample, ...]:
    """The held-out records that the evaluations chose, with each policy's greedy answer.

    Raises:
        InputError: a file is damaged.
    """
    records: dict[str, AnnotatedRecord] = {}
    answers: dict[str, list[Shown]] = {}
    for number in numbers:
        files = EvaluationFiles(folder.iteration(number).metrics)
        responses = files.answers("greedy")
        if not (files.samples.is_file() and responses.is_file()):
            continue
        for record in read_records(files.samples, AnnotatedRecord):
            records.setdefault(record.id, record)
        for response in read_records(responses, Response):
            if response.id in records:
                answer = _shown(number, response.response, response.finish_reason)
                answers.setdefault(response.id, []).append(answer)
    return tuple(
        Sample(
            record.messages,
            (
                _annotation(record.response, record.reasoning_content, record.tool_calls),
                *answers.get(identity, ()),
            ),
        )
        for identity, record in records.items()
    )


def training_samples(folder: RunFolder, numbers: Sequence[int], count: int) -> tuple[Sample, ...]:
    """Some prompts of the first triplets, with y, y0 and the y' of each iteration.

    Args:
        folder: The run's.
        numbers: Of the iterations.
        count: How many prompts.

    Raises:
        InputError: a file is damaged.
    """
    paths = {number: folder.iteration(number).triplets for number in numbers}
    files = {number: path for number, path in paths.items() if path.is_file()}
    if not files:
        return ()
    first = read_records(next(iter(files.values())), Triplet)
    by_id: dict[str, dict[int, Triplet]] = {
        identity: {} for identity in choose((triplet.id for triplet in first), count)
    }
    for number, path in files.items():
        for triplet in read_records(path, Triplet):
            if triplet.id in by_id:
                by_id[triplet.id][number] = triplet
    return tuple(_triplet_sample(triplets) for triplets in by_id.values())


def write_shown(triplets: Path, out: Path) -> None:
    """Keep of a triplet file what a report shows: its manifest, and the chosen triplets."""
    chosen = set(choose((triplet.id for triplet in read_records(triplets, Triplet)), SHOWN))
    rows = read_records(triplets, Triplet)
    write_records(out, (triplet for triplet in rows if triplet.id in chosen))
    manifest_path(out).write_bytes(manifest_path(triplets).read_bytes())


def _triplet_sample(triplets: dict[int, Triplet]) -> Sample:
    first = next(iter(triplets.values()))
    start = triplets.get(0)
    # At iteration 0 the initial policy plays itself: y' is y0, and one of them is enough.
    same = start is not None and start.synthetic == start.proto_synthetic
    proto = Shown(
        "proto_synthetic",
        "y\u2080, the initial policy" + (" (and y\u2032 of iteration 0)" if same else ""),
        first.proto_synthetic,
        first.proto_synthetic_finish_reason == "length",
    )
    played = [
        Shown(
            "synthetic",
            f"y\u2032 of iteration {number}",
            triplet.synthetic,
            triplet.synthetic_finish_reason == "length",
        )
        for number, triplet in triplets.items()
        if number > 0 or not same
    ]
    annotation = _annotation(
        first.annotated, first.annotated_reasoning_content, first.annotated_tool_calls
    )
    return Sample(first.messages, (annotation, proto, *played))


def _annotation(
    text: str, thought: str | None, tool_calls: Sequence[dict[str, Any]] | None
) -> Shown:
    """All of the target turn: a call of a tool may be the whole of it."""
    parts = [f"<think>\n{thought}\n</think>"] if thought else []
    parts += [text] if text else []
    parts += [json.dumps(call, ensure_ascii=False, indent=2) for call in tool_calls or ()]
    return Shown("annotated", "y, the annotation", "\n".join(parts))


def _shown(number: int, text: str, finish_reason: FinishReason) -> Shown:
    if number == BASE:
        return Shown("proto_synthetic", "base", text, finish_reason == "length")
    return Shown("synthetic", f"after iteration {number}", text, finish_reason == "length")
