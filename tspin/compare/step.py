"""The comparison, top to bottom: every method from every seed, further sets, one result."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tspin.compare.arms import HELDOUT, Arm, ArmRun
from tspin.compare.cost import Cost, Meter
from tspin.compare.folders import ComparisonFolder, share_outputs
from tspin.compare.page import write_page
from tspin.compare.result import collect
from tspin.config import RunConfig, resolved
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.files import write_json
from tspin.records.estimate import read_estimates
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, describe, read_records
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.inputs import fetch_data
from tspin.selfplay import run
from tspin.tracking.tracked import tracked_comparison

if TYPE_CHECKING:
    from tspin.tracking.run import FolderRun

__all__ = ["Comparison", "compare"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What is compared, on what."""

    config: RunConfig
    """Of every run, but for what `arms` and `settings` change; data.heldout is set."""
    arms: Sequence[Arm]
    seeds: Sequence[int]
    settings: Mapping[str, RunConfig] = field(default_factory=dict)
    """By name of an arm: its own configuration instead of `config`."""
    measured: Mapping[str, Path] = field(default_factory=dict)
    """By name: further annotated records, on which the initial policy, the best on the held-out
    records and the last one of each run are measured, and nothing is chosen."""
    against: str | None = None
    """The arm that all others are set against; None is the first."""

    def __post_init__(self) -> None:
        """Refuse what cannot be compared.

        Raises:
            InputError: no held-out records, an unknown arm, or a file that is missing.
        """
        if self.config.data.heldout is None:
            raise InputError("data.heldout is not set: without it nothing can be compared")
        names = [arm.name for arm in self.arms]
        for name in [*self.settings, *([self.against] if self.against else [])]:
            if name not in names:
                raise InputError(f"{name!r} is none of the methods compared: {', '.join(names)}")
        for arm in self.arms:
            self.of(arm)
            epochs = self.settings.get(arm.name, self.config).train.epochs
            if arm.matched and epochs != self.config.train.epochs:
                raise InputError(
                    f"--set-for {arm.name}:train.epochs={epochs}: its epochs follow from what the "
                    "self-play methods cost; leave them out"
                )
        for name, path in self.measured.items():
            if not path.is_file():
                raise InputError(f"--measure {name}={path}: no such file")

    def of(self, arm: Arm) -> RunConfig:
        """The configuration of an arm with its method.

        Raises:
            InputError: the method cannot be had with it.
        """
        config = self.settings.get(arm.name, self.config)
        values = config.model_dump()
        values["train"]["method"] = arm.method
        if arm.method == "rft" and config.train.rft_extractor is None:
            values["train"]["rft_extractor"] = next(iter(config.evaluate.extractors), None)
        try:
            return RunConfig.model_validate(values)
        except ValidationError as error:
            raise InputError(f"--methods {arm.name}: {describe(error)}") from None


def compare(
    asked: Comparison, path: Path, *, kept: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Run every method from every seed, or the rest of it; write compare.json and the page.

    Args:
        asked: What is compared.
        path: The comparison's folder on this machine.
        kept: Called after each iteration of each run, when its outputs are in place.

    Returns:
        What compare.json holds (docs/guides/compare.md).

    Raises:
        InputError: the folder holds a comparison of another configuration, or an input is broken.
        TspinError: a step failed; run again to continue.
    """
    folder = ComparisonFolder(path)
    with folder.held(), tracked_comparison(asked.config, path) as within:
        runs = []
        for seed in asked.seeds:
            runs += _of_seed(asked, folder, seed, kept, within)
        result = collect(asked.arms, runs, asked.against or asked.arms[0].name, asked.config)
        result["config"] = resolved(asked.config)
        write_json(folder.result, result)
        write_page(result, folder.page)
    return result


def _of_seed(
    asked: Comparison,
    folder: ComparisonFolder,
    seed: int,
    kept: Callable[[], None] | None,
    within: FolderRun | None,
) -> list[ArmRun]:
    done: dict[str, ArmRun] = {}
    # What is matched comes last: it needs to know what the others cost.
    for arm in sorted(asked.arms, key=lambda arm: arm.matched):
        log.info("comparing %s, seed %d", arm.name, seed)
        config = _configured(asked, folder, arm, seed)
        fetched = fetch_data(config)
        annotated = folder.share(fetched.annotated, arm.share)
        data = config.data.model_copy(update={"annotated": str(annotated)})
        config = config.model_copy(update={"data": data})
        meter = Meter(config)
        if arm.matched:
            config = _matched(config, arm, list(done.values()), meter.epoch(config, annotated))
        share_outputs(folder, arm, [earlier.arm for earlier in done.values()], seed)
        clock = folder.clock(arm, seed)
        run_folder = run(config, kept=kept, timed=clock.running, within=within)
        played = ArmRun.read(arm, seed, config, run_folder)
        cost = meter.run(config, run_folder, annotated, len(played.iterations))
        measured = _measure(asked, folder, played)
        sets = dict(asked.measured)
        if fetched.heldout is not None:
            sets[HELDOUT] = fetched.heldout
        done[arm.name] = played.completed(cost, clock.seconds, measured, sets)
    return [done[arm.name] for arm in asked.arms]


def _configured(asked: Comparison, folder: ComparisonFolder, arm: Arm, seed: int) -> RunConfig:
    config = asked.of(arm)
    return config.model_copy(
        update={
            "run_dir": str(folder.run(arm, seed).path),
            "seed": seed,
            # What each step takes is compared, too: nothing may run beside it.
            "system": config.system.model_copy(update={"evaluate_beside": False}),
        }
    )


def _matched(config: RunConfig, arm: Arm, done: Sequence[ArmRun], epoch: Cost) -> RunConfig:
    """Enough epochs an iteration for at least the compute of the dearest self-play method."""
    target = max(run.cost.flops for run in done if run.arm.plays and run.arm.share == arm.share)
    epochs = max(1, math.ceil(target / (config.iterations * epoch.flops)))
    log.info("%s: %d epochs an iteration match the compute of self-play", arm.name, epochs)
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})


def _measure(
    asked: Comparison, folder: ComparisonFolder, played: ArmRun
) -> dict[str, dict[int, Path]]:
    """Evaluate on the further sets; by set and iteration where the metrics are."""
    run_folder = RunFolder(Path(played.config.run_dir))
    paths: dict[str, dict[int, Path]] = {}
    for name, path in asked.measured.items():
        extractors = [
            extractor for extractor in played.config.evaluate.extractors if _finds(extractor, path)
        ]
        # All records, and without rules that find nothing in these annotations.
        changes = {"extractors": tuple(extractors or ["exact"]), "max_records": None}
        settings = played.config.evaluate.model_copy(update=changes)
        config = played.config.model_copy(update={"evaluate": settings})
        for number in sorted({BASE, played.best, played.last}):
            model = run_folder.iteration(number).model
            fitted = read_estimates(played.heldout[number]).get("temperature/fitted")
            out = folder.measured(played.arm, played.seed, name, number)
            evaluate(
                config,
                model=config.model.path if number == BASE else str(model),
                annotated=path,
                out=out,
                proto=None,
                iteration=number,
                # Nothing is fitted to what only measures.
                temperature=None if fitted is None else fitted.value,
                arithmetic=run_folder.begun(),
            )
            paths.setdefault(name, {})[number] = out
    return paths


def _finds(extractor: str, path: Path) -> bool:
    extract = find_extractor(extractor)
    return any(extract(record.response) for record in read_records(path, AnnotatedRecord))
