"""The build-triplets step: y, y' and y0 of each prompt, joined by id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tspin.config import TripletsConfig
from tspin.errors import InputError
from tspin.records.extractors import Extractor, find_extractor
from tspin.records.manifest import (
    Manifest,
    announce,
    content_hash,
    is_current,
    read_manifest,
    refuse_contradiction,
    write_manifest,
)
from tspin.records.records import (
    AnnotatedRecord,
    FurtherSample,
    Response,
    Triplet,
    read_located,
    read_record_at,
    read_records,
    write_records,
)
from tspin.records.seconds import carry_seconds

__all__ = ["TripletSources", "build_triplets"]

_UNSAID = re.compile(r"^\s*(?:<think>\s*</think>|</?think>)\s*")
"""What opens a thought, or ends an empty one, at the beginning of a response."""


@dataclass(frozen=True)
class TripletSources:
    """The three files and the manifests of the generated two."""

    annotated: Path
    synthetic: Path
    proto: Path
    annotated_hash: str
    synthetic_manifest: Manifest | None
    proto_manifest: Manifest | None

    @classmethod
    def open(cls, annotated: Path, synthetic: Path, proto: Path) -> TripletSources:
        """Look at the files and their manifests.

        Args:
            annotated: Annotated records (y).
            synthetic: Responses of the current policy (y').
            proto: Responses of the initial policy (y0).

        Raises:
            InputError: a file is missing, was changed after it was made, or does not belong to
                the others: another annotated set, another template, not the initial policy's.
        """
        for path in (annotated, synthetic, proto):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
        sources = cls(
            annotated=annotated,
            synthetic=synthetic,
            proto=proto,
            annotated_hash=content_hash(annotated),
            synthetic_manifest=read_manifest(synthetic),
            proto_manifest=read_manifest(proto),
        )
        sources._refuse_contradictions()
        return sources

    def _refuse_contradictions(self) -> None:
        manifests = {self.synthetic: self.synthetic_manifest, self.proto: self.proto_manifest}
        known = {str(path): manifest for path, manifest in manifests.items() if manifest}
        for path, manifest in known.items():
            if manifest.kind != "responses":
                raise InputError(f"{path}: its manifest says {manifest.kind}, expected responses")
        annotated: dict[str, str | None] = {str(self.annotated): self.annotated_hash}
        for path, manifest in known.items():
            annotated[path] = manifest.inputs.get("annotated")
        refuse_contradiction("annotated set", annotated)
        refuse_contradiction(
            "prompt template", {path: manifest.template for path, manifest in known.items()}
        )
        if self.proto_manifest and self.proto_manifest.iteration not in (0, None):
            raise InputError(
                f"{self.proto}: responses of iteration {self.proto_manifest.iteration}; "
                "proto-synthetic responses are those of the initial policy, iteration 0"
            )

    def wanted(self, config: TripletsConfig) -> Manifest:
        """The manifest of the triplets to be made from these sources."""
        known = self.synthetic_manifest
        return Manifest(
            kind="triplets",
            inputs={
                "annotated": self.annotated_hash,
                "synthetic": content_hash(self.synthetic),
                "proto_synthetic": content_hash(self.proto),
            },
            iteration=known.iteration if known else None,
            model=known.model if known else None,
            template=known.template if known else None,
            parameters=config.model_dump(mode="json"),
            seed=known.seed if known else None,
            arithmetic=known.arithmetic if known else None,
        )


def build_triplets(
    config: TripletsConfig, *, annotated: Path, synthetic: Path, proto: Path, out: Path
) -> Manifest:
    """Join annotated, synthetic and proto-synthetic responses by id into triplets.

    Where there are several responses to a prompt, all of `synthetic` are y' of its triplet, and the
    first of `proto` is y0: the papers' y0 is one response a prompt. A doubtful y' is dropped by
    itself, and the triplet where none is left.

    Memory holds one byte offset a response and no texts. Returns at once if `out` is current.

    Args:
        config: What becomes of identical, empty and truncated responses, and of right ones.
        annotated: Annotated records (y).
        synthetic: Responses of the current policy (y').
        proto: Responses of the initial policy (y0); at iteration 0 the same file as `synthetic`.
        out: Where the triplets go, in the order of `annotated`.

    Returns:
        The manifest; its counts say how many triplets there are (and how many y' besides their
        first ones), and how many are doubtful or were dropped, by reason.

    Raises:
        InputError: a file is broken, a response is missing or has no prompt, the manifests
            contradict each other, there is no such extractor, or no triplet is left.
    """
    extract = None if config.same_answer is None else find_extractor(config.same_answer)
    sources = TripletSources.open(annotated, synthetic, proto)
    manifest = sources.wanted(config)
    if is_current(out, manifest):
        return read_manifest(out) or manifest
    join = _Join(config, sources, extract)
    join.write(out)
    if out.parent.resolve() != synthetic.parent.resolve():  # In a run they are side by side.
        carry_seconds([synthetic], out)
    return write_manifest(
        out, manifest.model_copy(update={"counts": join.counts, "dropped_ids": join.dropped_ids})
    )


class _Lookup:
    """Responses of one file by the prompt's id, read from the disk when asked for."""

    def __init__(self, path: Path, manifest: Manifest | None) -> None:
        self.path = path
        self.offsets: dict[str, list[int]] = {}
        for offset, response in read_located(path, Response):
            offsets = self.offsets.setdefault(response.id, [])
            if response.sample != len(offsets):
                raise InputError(
                    f"{path}: sample {response.sample} of the response to {response.id!r} stands "
                    f"where sample {len(offsets)} belongs; generate again"
                )
            offsets.append(offset)
        self.unused = len(self.offsets)
        dropped = manifest.dropped_ids if manifest else {}
        self.dropped = {identity for ids in dropped.values() for identity in ids}

    def get(self, identity: str, file: IO[bytes]) -> list[Response]:
        """The responses, or none where generation dropped the prompt and its manifest says so."""
        offsets = self.offsets.get(identity)
        if offsets is None:
            if identity in self.dropped:
                return []
            raise InputError(
                f"{self.path}: no response for id {identity!r}; generate again from the same "
                "annotated records"
            )
        self.unused -= 1
        return [read_record_at(file, offset, Response) for offset in offsets]


def _said(text: str) -> str:
    """A response without the tag that begins a thought, and without an empty thought.

    Whether an annotation or a prompt has them is the chat template's choice, so they say nothing.
    """
    return _UNSAID.sub("", text)


@dataclass
class _Join:
    config: TripletsConfig
    sources: TripletSources
    extract: Extractor | None
    counts: dict[str, int] = field(default_factory=dict)
    dropped_ids: dict[str, list[str]] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        reasons = ["identical", "empty", "truncated", "not_generated"]
        if self.extract is not None:
            reasons.append("same_answer")
        self._counter: Counter[str] = Counter(dict.fromkeys(("triplets", *reasons), 0))
        self._counter["triplets"] = write_records(out, self._triplets(out))
        self.counts = dict(self._counter)

    def _triplets(self, out: Path) -> Iterator[Triplet]:
        synthetic = _Lookup(self.sources.synthetic, self.sources.synthetic_manifest)
        same = self.sources.proto == self.sources.synthetic
        proto = synthetic if same else _Lookup(self.sources.proto, self.sources.proto_manifest)
        kept = 0
        with synthetic.path.open("rb") as synthetic_file, proto.path.open("rb") as proto_file:
            for record in read_records(self.sources.annotated, AnnotatedRecord):
                played = synthetic.get(record.id, synthetic_file)
                initial = played if same else proto.get(record.id, proto_file)
                triplet = self._join(record, played, initial)
                if triplet is not None:
                    kept += 1
                    yield triplet
        for lookup in (synthetic, proto):
            if lookup.unused:
                raise InputError(
                    f"{lookup.path}: {lookup.unused} responses belong to no record of "
                    f"{self.sources.annotated}"
                )
        if not kept:
            raise InputError(f"no triplet is left; dropped: {self._dropped_counts()}")
        announce(out)  # All of them are written, and get their name next.

    def _join(
        self, record: AnnotatedRecord, played: list[Response], initial: list[Response]
    ) -> Triplet | None:
        if not played or not initial:
            self._drop("not_generated", record.id)
            return None
        y0 = initial[0]
        refusals = [self._refusal(record, y1, y0) for y1 in played]
        kept = [y1 for y1, refusal in zip(played, refusals, strict=True) if refusal is None]
        if not kept:
            self._drop(str(refusals[0]), record.id)
            return None
        y1, *further = kept
        if further:
            self._counter["further_synthetic"] += len(further)
        return Triplet(
            id=record.id,
            messages=record.messages,
            tools=record.tools,
            annotated=record.response,
            annotated_reasoning_content=record.reasoning_content,
            annotated_tool_calls=record.tool_calls,
            synthetic=y1.response,
            proto_synthetic=y0.response,
            synthetic_finish_reason=y1.finish_reason,
            proto_synthetic_finish_reason=y0.finish_reason,
            synthetic_special_tokens=y1.special_tokens,
            proto_synthetic_special_tokens=y0.special_tokens,
            further_synthetic=[FurtherSample.of(one) for one in further] or None,
        )

    def _refusal(self, record: AnnotatedRecord, y1: Response, y0: Response) -> str | None:
        """Why y' is dropped, or None; all doubts are counted."""
        doubts = {
            "identical": _said(y1.response) == _said(record.response),
            "empty": not (y1.response and y0.response),
            "truncated": "length" in (y1.finish_reason, y0.finish_reason),
            "same_answer": self._same_answer(y1.response, record.response),
        }
        reasons = [reason for reason, holds in doubts.items() if holds]
        self._counter.update(reasons)
        refused = [
            reason
            for reason in reasons
            if reason == "same_answer" or getattr(self.config, reason) == "drop"
        ]
        return refused[0] if refused else None

    def _same_answer(self, response: str, annotation: str) -> bool:
        """Whether both give the same answer; where none is found, none is the same."""
        if self.extract is None:
            return False
        answer = self.extract(response)
        return answer is not None and answer == self.extract(annotation)

    def _drop(self, reason: str, identity: str) -> None:
        if reason == "not_generated":
            self._counter[reason] += 1
        self.dropped_ids.setdefault(reason, []).append(identity)

    def _dropped_counts(self) -> dict[str, int]:
        return {reason: len(ids) for reason, ids in self.dropped_ids.items()}
