"""Completion spread over several workers: what a shard holds, and the shards put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.records.arithmetic import differences
from tspin.records.manifest import (
    Manifest,
    announce,
    content_hash,
    is_current,
    read_manifest,
    write_manifest,
)
from tspin.records.records import AnnotatedRecord, ResponseKey, read_records
from tspin.records.seconds import carry_seconds

__all__ = [
    "WHOLE",
    "Shard",
    "merge_responses",
    "shard_of",
    "shards_by_index",
    "whole_manifest",
]


@dataclass(frozen=True)
class Shard:
    """Every `count`-th record of a file, from the record at `index`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `i/n`, with i from 0 to n - 1.

        Raises:
            InputError: it is not of this form.
        """
        index, slash, count = text.partition("/")
        if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return cls(int(index), int(count))
        raise InputError(f"shard is {text!r}; expected i/n with i from 0 to n - 1, such as 0/4")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, position: int) -> bool:
        """Whether the record at a position of the file, from 0, belongs to this shard."""
        return position % self.count == self.index

    def select(self, records: Iterator[AnnotatedRecord]) -> Iterator[AnnotatedRecord]:
        """The records of this shard, in their order."""
        return (record for position, record in enumerate(records) if self.holds(position))


WHOLE = Shard(0, 1)


def merge_responses(shards: Sequence[Path], *, annotated: Path, out: Path) -> Manifest:
    """Put the responses of all shards together: the bytes that one worker would have written.

    Args:
        shards: One file of responses a shard, in any order, each beside its manifest.
        annotated: The records that the prompts come from.
        out: Where all responses go, in the order of `annotated`.

    Returns:
        The manifest of `out`, equal to that of an unsharded generation.

    Raises:
        InputError: a shard is missing or given twice, the shards were made with different
            settings or from other records, or a response is missing.
    """
    parts = shards_by_index(shards, annotated, kind="responses")
    merged = whole_manifest(parts, annotated)
    if is_current(out, merged):
        return read_manifest(out) or merged
    with atomic_file(out) as file, ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path, _ in parts]
        dropped = [
            {identity for ids in manifest.dropped_ids.values() for identity in ids}
            for _, manifest in parts
        ]
        for position, record in enumerate(read_records(annotated, AnnotatedRecord)):
            index = position % len(parts)
            if record.id not in dropped[index]:
                for sample in range(merged.parameters.get("samples", 1)):
                    file.write(_line(opened[index], parts[index][0], (record.id, sample)))
        for lines, (path, _) in zip(opened, parts, strict=True):
            if lines.readline():
                raise InputError(f"{path}: holds responses that belong to no record of {annotated}")
        announce(out)
    carry_seconds([path for path, _ in parts], out)
    return write_manifest(out, merged)


def _line(lines: IO[bytes], path: Path, key: ResponseKey) -> bytes:
    line = lines.readline()
    response = orjson.loads(line) if line else {}
    if (response.get("id"), response.get("sample", 0)) != key:
        identity, sample = key
        which = f"sample {sample} of " if sample else ""
        shown = response.get("id", "the end of the file")
        raise InputError(
            f"{path}: expected {which}the response to {identity!r}, found {shown!r}"
            + (f", sample {response['sample']}" if "sample" in response else "")
        )
    return line


def shard_of(manifest: Manifest) -> Shard:
    """Which shard an output is; `WHOLE` where it is all there is."""
    return Shard.parse(str(manifest.parameters.get("shard", WHOLE)))


def shards_by_index(
    shards: Sequence[Path], annotated: Path, *, kind: str, of: Shard = WHOLE
) -> list[tuple[Path, Manifest]]:
    """Files and manifests of all shards, in the order of their indices.

    Args:
        shards: In any order, each beside its manifest.
        annotated: The records that they were made for.
        kind: Of their manifests.
        of: What they make together; its own shards are every `of.count`-th of a finer division.

    Raises:
        InputError: a shard is missing or given twice, or was made for other records.
    """
    parts: dict[int, tuple[Path, Manifest]] = {}
    count = of.count * len(shards)
    for path in shards:
        manifest = read_manifest(path) if path.is_file() else None
        if manifest is None or manifest.kind != kind:
            what = "responses" if kind == "responses" else "evaluation"
            raise InputError(f"{path}: expected the {what} of a shard, with their manifest")
        shard = shard_of(manifest)
        if shard.count != count or shard.index % of.count != of.index:
            raise InputError(f"{path}: is shard {shard}, but {len(shards)} files are given")
        if shard.index in parts:
            raise InputError(f"{path} and {parts[shard.index][0]}: both are shard {shard}")
        if manifest.inputs.get("annotated") != content_hash(annotated):
            raise InputError(f"{path}: was not generated for the prompts of {annotated}")
        parts[shard.index] = (path, manifest)
    return [parts[index] for index in sorted(parts)]


def whole_manifest(parts: Sequence[tuple[Path, Manifest]], annotated: Path) -> Manifest:
    """The manifest of all shards together, its hash still missing.

    Args:
        parts: Of `shards_by_index`.
        annotated: The records, which give the order of those left out.

    Raises:
        InputError: the shards were made with different settings.
    """
    totals: Counter[str] = Counter()
    for _, manifest in parts:
        totals.update(manifest.counts)
    path, first = parts[0][0], _unsharded(parts[0][1])
    for other_path, manifest in parts:
        for key, value in _unsharded(manifest).items():
            if value != first[key]:
                raise InputError(
                    f"{other_path} and {path}: do not belong together, their {key} differs: "
                    + " and ".join(_differing(value, first[key]))
                )
    arithmetic = parts[0][1].arithmetic
    others = {f"shard {at}": manifest.arithmetic for at, (_, manifest) in enumerate(parts)}
    return Manifest(
        **first,
        counts=dict(totals),
        dropped_ids=_dropped(parts, annotated),
        arithmetic=arithmetic,
        bytes_may_differ=differences(arithmetic, others) if arithmetic else None,
    )


def _differing(value: Any, other: Any) -> tuple[str, str]:
    """Two values that differ, in words; of two mappings what differs."""
    if not (isinstance(value, dict) and isinstance(other, dict)):
        return repr(value), repr(other)
    keys = sorted(k for k in value.keys() | other.keys() if value.get(k) != other.get(k))
    own, others = ({key: one.get(key) for key in keys} for one in (value, other))
    return repr(own), repr(others)


def _unsharded(manifest: Manifest) -> dict[str, Any]:
    """What all shards of one generation have in common."""
    common = manifest.asked()
    common["parameters"].pop("shard", None)
    return common


def _dropped(parts: Sequence[tuple[Path, Manifest]], annotated: Path) -> dict[str, list[str]]:
    """Reason to the ids of the records left out, in the order of the records."""
    reasons = {
        identity: reason
        for _, manifest in parts
        for reason, ids in manifest.dropped_ids.items()
        for identity in ids
    }
    dropped: dict[str, list[str]] = {}
    for record in read_records(annotated, AnnotatedRecord) if reasons else ():
        if record.id in reasons:
            dropped.setdefault(reasons[record.id], []).append(record.id)
    return dropped
