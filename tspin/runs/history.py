"""What a run folder tells about its run, finished or on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.files import read_object
from tspin.records.estimate import Estimate, estimates_of, read_metrics
from tspin.records.manifest import Manifest, parse_manifest, read_manifest
from tspin.records.records import Response, read_records
from tspin.records.seconds import StepSeconds, read_seconds
from tspin.records.training_log import read_train_log
from tspin.runs.config_file import CONFIG, read_run_config
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.samples import Sample, heldout_samples, training_samples

__all__ = ["History", "InVain", "Played", "in_vain", "read_history"]


@dataclass(frozen=True)
class Played:
    """One iteration, or the initial policy (`BASE`), as far as it came."""

    number: int
    metrics: dict[str, Estimate] = field(default_factory=dict)
    records: int = 0
    """Held-out records that it was measured on; 0 where it was not."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Of train_log.jsonl, one entry a logged optimiser step."""
    lm_eval: dict[str, Any] = field(default_factory=dict)
    """`version` of the harness and `tasks`, where tasks were asked."""
    seconds: tuple[StepSeconds, ...] = ()
    """What the time of its steps went to, as far as that is known."""

    @property
    def label(self) -> str:
        """As it stands below an axis or in a table."""
        return "base" if self.number == BASE else str(self.number)


@dataclass(frozen=True)
class InVain:
    """An iteration whose policy had answered already when the gate stopped the run."""

    number: int
    responses: int
    tokens: int
    """Of these responses."""

    def __str__(self) -> str:
        cost = f"{self.responses:,} responses, {self.tokens:,} tokens"
        return f"iteration {self.number} had begun, and its generation ({cost}) was in vain"


@dataclass(frozen=True)
class History:
    """All of a run that the report shows."""

    name: str
    config: RunConfig
    config_text: str
    played: tuple[Played, ...]
    """The initial policy first where it was evaluated, then the iterations in order."""
    best: dict[str, Any] | None
    heldout_samples: tuple[Sample, ...]
    """Held-out prompts with the greedy answers of each policy."""
    training_samples: tuple[Sample, ...]
    """Prompts trained on, with y, y0 and y'."""
    manifests: dict[str, Manifest]
    """By the path of what each describes, relative to the run folder."""
    in_vain: InVain | None = None
    """What had begun after the last of `played`, where the gate stopped the run."""

    @property
    def finished(self) -> int:
        """How many iterations are done: trained, and evaluated where there is held-out data."""
        return sum(
            f"iter-{iteration.number}/model" in self.manifests
            and (bool(iteration.metrics) or self.config.data.heldout is None)
            for iteration in self.iterations
        )

    @property
    def iterations(self) -> tuple[Played, ...]:
        """Those that trained, without the initial policy."""
        return tuple(iteration for iteration in self.played if iteration.number != BASE)


def in_vain(folder: RunFolder, begun: Path | None = None) -> InVain | None:
    """The iteration that had begun when the gate stopped the run, if one had.

    Args:
        folder: Of the run.
        begun: Its responses, where they are not in the folder.

    Raises:
        InputError: a file is damaged.
    """
    stopped = _stopped(folder)
    if stopped is None:
        return None
    last = max(folder.numbers(), default=0)
    synthetic = begun or folder.iteration(last).synthetic
    manifest = read_manifest(synthetic)
    # What was trained has a log; the training comes after the gate.
    if manifest is None or (begun is None and folder.iteration(last).train_log.is_file()):
        return None
    lengths = [response.response_tokens for response in read_records(synthetic, Response)]
    return InVain(manifest.iteration or 0, len(lengths), sum(lengths))


def _stopped(folder: RunFolder) -> str | None:
    """Why the gate stopped the run."""
    return read_object(folder.best)["stopped"] if folder.best.is_file() else None


def read_history(run_dir: Path, *, samples: int, begun: Path | None = None) -> History:
    """Read what a run folder holds; what is not there yet is left out.

    Args:
        run_dir: The run folder.
        samples: How many of the prompts that were trained on to show.
        begun: Responses of an iteration that the gate let go no further, from elsewhere.

    Raises:
        InputError: no such folder, no config.json in it, or a file in it is damaged.
    """
    folder = RunFolder(run_dir)
    config = read_run_config(run_dir)
    config_text = (run_dir / CONFIG).read_text(encoding="utf-8")
    vain = in_vain(folder, begun)
    begun_numbers = [vain.number] if vain else []
    played = [
        _read_played(folder, number)
        for number in (BASE, *folder.numbers())
        if number not in begun_numbers
    ]
    if not (played[0].metrics or folder.iteration(BASE).path.is_dir()):
        played = played[1:]
    numbers = [iteration.number for iteration in played]
    return History(
        name=Path(config.run_dir).name,
        config=config,
        config_text=config_text,
        played=tuple(played),
        best=read_object(folder.best) if folder.best.is_file() else None,
        heldout_samples=heldout_samples(folder, numbers),
        training_samples=training_samples(folder, numbers, samples),
        manifests=_read_manifests(folder),
        in_vain=vain,
    )


def _read_played(folder: RunFolder, number: int) -> Played:
    outputs = folder.iteration(number)
    evaluation = read_metrics(outputs.metrics) if outputs.metrics.is_file() else {"metrics": {}}
    steps = read_train_log(outputs.train_log) if outputs.train_log.is_file() else []
    return Played(
        number,
        metrics=estimates_of(evaluation),
        records=evaluation.get("records", 0),
        steps=steps,
        lm_eval=evaluation.get("lm_eval", {}),
        seconds=_read_seconds(folder, number),
    )


def _read_seconds(folder: RunFolder, number: int) -> tuple[StepSeconds, ...]:
    outputs = folder.iteration(number)
    # At iteration 0 the responses are y0; a history has triplets, and no responses.
    responses = {BASE: folder.heldout_proto, 0: folder.proto}.get(number, outputs.synthetic)
    generated = read_seconds(responses) or read_seconds(outputs.triplets)
    steps = (generated, read_seconds(outputs.model), read_seconds(outputs.metrics))
    return tuple(step for step in steps if step is not None)


def _read_manifests(folder: RunFolder) -> dict[str, Manifest]:
    manifests = {}
    iterations = (folder.iteration(number).path for number in (BASE, *folder.numbers()))
    places = (folder.path, *iterations)
    for path in sorted(entry for place in places for entry in place.glob("*.manifest.json")):
        # Only parsed: to hash every model again would make the report as slow as the disk.
        name = path.relative_to(folder.path).as_posix().removesuffix(".manifest.json")
        manifests[name] = parse_manifest(path.read_bytes(), path)
    return manifests
