"""The build-triplets step: y, y' and y0 of each prompt, joined by id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tspin.config import TripletsConfig
from tspin.errors import InputError
from tspin.records.extractors import Extractor, find_extractor
from tspin.records.lookup import ResponseLookup
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
    read_records,
    write_records,
)
from tspin.records.seconds import carry_seconds

__all__ = ["TripletSources", "build_triplets"]

_UNSAID = re.compile(r"^\s*(?:<think>\s*</think>|</?think>)\s*")
"""What opens a thought, or ends an empty one, at the beginning of a response."""


@dataclass(frozen=True)
class TripletSources:
    """The files of responses with their manifests, and that of the annotations."""

    annotated: Path
    synthetic: Path
    proto: Path
    earlier: tuple[Path, ...]
    annotated_hash: str
    manifests: dict[Path, Manifest | None]
    """By file of responses."""

    @classmethod
    def open(
        cls, annotated: Path, synthetic: Path, proto: Path, earlier: Sequence[Path] = ()
    ) -> TripletSources:
        """Look at the files and their manifests.

        Args:
            annotated: Annotated records (y).
            synthetic: Responses of the current policy (y').
            proto: Responses of the initial policy (y0).
            earlier: Of the policies between these two, oldest first.

        Raises:
            InputError: a file is missing, was changed after it was made, or does not belong to
                the others: another annotated set, another template, not that policy's.
        """
        for path in (annotated, synthetic, proto, *earlier):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
        sources = cls(
            annotated=annotated,
            synthetic=synthetic,
            proto=proto,
            earlier=tuple(earlier),
            annotated_hash=content_hash(annotated),
            manifests={path: read_manifest(path) for path in (synthetic, proto, *earlier)},
        )
        sources._refuse_contradictions()
        sources._refuse_other_iterations()
        return sources

    def _refuse_contradictions(self) -> None:
        known = {str(path): manifest for path, manifest in self.manifests.items() if manifest}
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

    def _refuse_other_iterations(self) -> None:
        places = {path: number for number, path in enumerate((self.proto, *self.earlier))}
        if self.earlier:
            places[self.synthetic] = len(self.earlier) + 1
        for path, number in places.items():
            manifest = self.manifests[path]
            if manifest and manifest.iteration not in (number, None):
                raise InputError(
                    f"{path}: responses of iteration {manifest.iteration}, expected {number}; "
                    "proto-synthetic responses are those of the initial policy, iteration 0, and "
                    "--earlier has those of every iteration from 1 to the one before, in this order"
                )

    def wanted(self, config: TripletsConfig) -> Manifest:
        """The manifest of the triplets to be made from these sources."""
        known = self.manifests[self.synthetic]
        earlier = {
            f"earlier_synthetic_{number}": content_hash(path)
            for number, path in enumerate(self.earlier, start=1)
        }
        return Manifest(
            kind="triplets",
            inputs={
                "annotated": self.annotated_hash,
                "synthetic": content_hash(self.synthetic),
                "proto_synthetic": content_hash(self.proto),
                **earlier,
            },
            iteration=known.iteration if known else None,
            model=known.model if known else None,
            template=known.template if known else None,
            parameters=config.model_dump(mode="json"),
            seed=known.seed if known else None,
            arithmetic=known.arithmetic if known else None,
        )


def build_triplets(
    config: TripletsConfig,
    *,
    annotated: Path,
    synthetic: Path,
    proto: Path,
    out: Path,
    earlier: Sequence[Path] = (),
) -> Manifest:
    """Join annotated, synthetic and proto-synthetic responses by id into triplets.

    Where there are several responses to a prompt, all of `synthetic` are y' of its triplet, and the
    first of `proto` is y0: the papers' y0 is one response a prompt; so are those of `earlier`. A
    doubtful y' is dropped by itself, and the triplet where none is left.

    Memory holds no texts, and of responses in another order than the records' (`ResponseLookup`)
    one byte offset each. Returns at once if `out` is current.

    Args:
        config: What becomes of identical, empty and truncated responses, and of right ones.
        annotated: Annotated records (y).
        synthetic: Responses of the current policy (y').
        proto: Responses of the initial policy (y0); at iteration 0 the same file as `synthetic`.
        out: Where the triplets go, in the order of `annotated`.
        earlier: For method tspin_all, responses of the policies between those two, oldest first.

    Returns:
        The manifest; its counts say how many triplets there are (and how many y' besides their
        first ones), and how many are doubtful or were dropped, by reason.

    Raises:
        InputError: a file is broken, a response is missing or has no prompt, the manifests
            contradict each other, there is no such extractor, or no triplet is left.
    """
    extract = None if config.same_answer is None else find_extractor(config.same_answer)
    sources = TripletSources.open(annotated, synthetic, proto, earlier)
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
        sources, kept = self.sources, 0
        with ExitStack() as stack:
            lookups = {
                path: stack.enter_context(ResponseLookup(path, manifest))
                for path, manifest in sources.manifests.items()
            }
            for record in read_records(sources.annotated, AnnotatedRecord):
                responses = {path: lookup.get(record.id) for path, lookup in lookups.items()}
                history = [responses[path] for path in (sources.proto, *sources.earlier)]
                triplet = self._join(record, responses[sources.synthetic], history)
                if triplet is not None:
                    kept += 1
                    yield triplet
        for lookup in lookups.values():
            if lookup.unused:
                raise InputError(
                    f"{lookup.path}: {lookup.unused} responses belong to no record of "
                    f"{sources.annotated}"
                )
        if not kept:
            raise InputError(f"no triplet is left; dropped: {self._dropped_counts()}")
        announce(out)  # All of them are written, and get their name next.

    def _join(
        self, record: AnnotatedRecord, played: list[Response], history: list[list[Response]]
    ) -> Triplet | None:
        if not played or not all(history):
            self._drop("not_generated", record.id)
            return None
        y0, *earlier = (responses[0] for responses in history)
        refusals = [self._refusal(record, y1, [y0, *earlier]) for y1 in played]
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
            earlier_synthetic=[FurtherSample.of(one) for one in earlier] or None,
        )

    def _refusal(
        self, record: AnnotatedRecord, y1: Response, history: list[Response]
    ) -> str | None:
        """Why y' is dropped, or None; all doubts are counted."""
        generated = [y1, *history]
        doubts = {
            "identical": _said(y1.response) == _said(record.response),
            "empty": not all(one.response for one in generated),
            "truncated": any(one.finish_reason == "length" for one in generated),
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
