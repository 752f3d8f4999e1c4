"""Where a comparison keeps what: one run a method and seed, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tspin.compare.arms import Arm
from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.records.manifest import forget, manifest_path
from tspin.records.records import AnnotatedRecord, read_records, write_records
from tspin.runs.clock import Clock
from tspin.runs.folder import BASE, RunFolder
from tspin.seeds import choose

__all__ = ["ComparisonFolder", "share_outputs"]

_BASE_FILES = (
    "metrics.greedy.jsonl",
    "metrics.sampled.jsonl",
    "metrics.fitted.jsonl",
    "metrics.temperature.json",
    "metrics.temperature.likelihoods.jsonl",
    "metrics.samples.jsonl",
    "metrics.likelihoods.jsonl",
)


@dataclass(frozen=True)
class ComparisonFolder:
    """`FOLDER`: runs below `seed-N/METHOD`, shares of the data, compare.json and the page."""

    path: Path

    @property
    def result(self) -> Path:
        """All numbers."""
        return self.path / "compare.json"

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.path / "compare.html"

    def run(self, arm: Arm, seed: int) -> RunFolder:
        """The run of one method from one seed."""
        return RunFolder(self.path / f"seed-{seed}" / arm.name)

    def clock(self, arm: Arm, seed: int) -> Clock:
        """What the steps of that run took."""
        return Clock(self.run(arm, seed).path / "seconds.json")

    def measured(self, arm: Arm, seed: int, name: str, iteration: int) -> Path:
        """Metrics of one policy on a further set; the initial policy's belong to all methods.

        Args:
            arm: A method.
            seed: Of its run.
            name: Of the set of records.
            iteration: `BASE` for the initial policy.
        """
        if iteration == BASE:
            return self.path / f"seed-{seed}" / "base" / name / "metrics.json"
        folder = self.run(arm, seed).path / "measured" / name
        return folder / f"iter-{iteration}" / "metrics.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out.

        Raises:
            InputError: another process is at work in the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock").acquire(blocking=False):
                yield
        except Timeout:
            raise InputError(f"{self.path}: another process is comparing in this folder") from None

    def share(self, annotated: Path, share: float) -> Path:
        """The annotated records that a method gets: those whose hashed id is lowest.

        A smaller share is part of a larger one, and no share depends on the order of the file.

        Raises:
            InputError: a broken record.
        """
        if share == 1:
            return annotated
        records = list(read_records(annotated, AnnotatedRecord))
        count = max(1, round(share * len(records)))
        chosen = {*choose((record.id for record in records), count)}
        out = self.path / "data" / f"annotated-{share:g}.jsonl"
        kept = [record for record in records if record.id in chosen]
        if not out.is_file() or list(read_records(out, AnnotatedRecord)) != kept:
            write_records(out, kept)
        return out


def share_outputs(folder: ComparisonFolder, arm: Arm, done: list[Arm], seed: int) -> None:
    """Take over what an earlier run has made and this one would make alike.

    The evaluation of the initial policy is the same for all methods, its responses to the held-out
    prompts for all self-play methods, y0 for those on the same share of the data. Each is taken
    with its manifest: if this run is configured differently, its steps see that and make it anew.

    Args:
        folder: The comparison's.
        arm: That is about to run.
        done: Arms that have run from the same seed.
        seed: Of all of them.
    """
    mine, clock = folder.run(arm, seed), folder.clock(arm, seed)
    for other in done:
        theirs, spent = folder.run(other, seed), folder.clock(other, seed)
        base = theirs.iteration(BASE).path
        for name in _BASE_FILES:
            _take(base / name, mine.iteration(BASE).path / name)
        if _take(theirs.iteration(BASE).metrics, mine.iteration(BASE).metrics):
            clock.take(spent, "base")
        if not (arm.plays and other.plays):
            continue
        if _take(theirs.heldout_proto, mine.heldout_proto):
            clock.take(spent, "heldout_proto")
        if arm.share == other.share and _take(theirs.proto, mine.proto):
            clock.take(spent, "proto")


def _take(source: Path, target: Path) -> bool:
    """Copy an output and then its manifest, unless there is one already; whether it was copied."""
    if target.exists() or not source.is_file():
        return False
    forget(target)
    with atomic_file(target) as file:
        file.write(source.read_bytes())
    manifest_file = manifest_path(source)
    if manifest_file.is_file():
        with atomic_file(manifest_path(target)) as file:
            file.write(manifest_file.read_bytes())
    return True
