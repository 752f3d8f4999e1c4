"""`tspin data split`: which records are held out, the same ones every time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.records.manifest import Manifest, announce, content_hash, write_manifest
from tspin.records.records import AnnotatedRecord, read_records
from tspin.seeds import derive_seed

__all__ = ["SplitCounts", "is_heldout", "split_records"]

_SEEDS = 2**63


@dataclass(frozen=True)
class SplitCounts:
    """Records on each side."""

    train: int
    heldout: int


def is_heldout(record: AnnotatedRecord, share: float, seed: int) -> bool:
    """Whether a record is held out: decided by a hash of the seed and how its prompt begins.

    A prompt begins with all turns up to the first of the user's. The hash is of that rather than
    of the id: ids follow from content, and two records with one prompt must not land on two sides,
    or the model would be tested on what it was trained on; nor may a conversation and its
    continuation, whose prompt holds the other's response. No other record has a say, so adding
    rows never moves one. Differences in white space and in case do not make another prompt.

    Args:
        record: Any annotated record.
        share: Of the records that are held out, between 0 and 1.
        seed: Another one holds out others.
    """
    first = next(at for at, turn in enumerate(record.messages) if turn.role == "user")
    beginning = record.messages[: first + 1]
    turns = (part for turn in beginning for part in (turn.role, _plain(turn.content)))
    return derive_seed(seed, "split", *turns) < share * _SEEDS


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def split_records(
    path: Path, *, train: Path, heldout: Path, heldout_share: float = 0.1, seed: int = 0
) -> SplitCounts:
    """Split annotated records in two files, each in the order of the input; see `is_heldout`.

    Args:
        path: Annotated records.
        train: Where the records to train on go.
        heldout: Where the records to evaluate on go.
        heldout_share: Expected share of held-out prompts, between 0 and 1.
        seed: Another seed holds out others.

    Raises:
        InputError: a damaged record, a share out of range, paths that clash, or a side that would
            be empty. Nothing is written then.
    """
    if not 0 < heldout_share < 1:
        raise InputError(f"heldout_share is {heldout_share}; expected a number between 0 and 1")
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or more")
    if len({path.resolve(), train.resolve(), heldout.resolve()}) < 3:
        raise InputError(
            f"input {path}, train {train} and heldout {heldout} must be three different files"
        )
    counts = {train: 0, heldout: 0}
    with atomic_file(train) as train_file, atomic_file(heldout) as heldout_file:
        for record in read_records(path, AnnotatedRecord):
            held = is_heldout(record, heldout_share, seed)
            counts[heldout if held else train] += 1
            (heldout_file if held else train_file).write(orjson.dumps(record.as_json()) + b"\n")
        _refuse_empty_side(path, counts[train], counts[heldout], heldout_share)
        for side in (train, heldout):
            # A crash between the two renames then leaves one file, never a pair that overlaps.
            side.unlink(missing_ok=True)
            announce(side)
    _write_manifests(path, counts, {"share": heldout_share, "seed": seed})
    return SplitCounts(counts[train], counts[heldout])


def _write_manifests(path: Path, counts: dict[Path, int], asked: dict[str, Any]) -> None:
    source = content_hash(path)
    for side, records in counts.items():
        made = Manifest(kind="annotated", inputs={"source": source}, parameters=asked)
        write_manifest(side, made.model_copy(update={"counts": {"records": records}}))


def _refuse_empty_side(path: Path, train: int, heldout: int, share: float) -> None:
    if train and heldout:
        return
    side, change = ("train", "lower") if heldout else ("held-out", "raise")
    raise InputError(
        f"{path}: the {side} side would be empty ({train + heldout} records at a held-out share of "
        f"{share}); {change} the share, take another seed, or give more records"
    )
