"""The plan of a run: each stage's work, where it computes, how long, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.harness.lengths import TaskLengths, task_lengths
from tspin.harness.requests import task_requests
from tspin.planning.devices import Device
from tspin.planning.lengths import DataLengths, data_lengths
from tspin.planning.places import Place
from tspin.planning.sizes import Sizes
from tspin.planning.speed import Measured, Speed, Stated
from tspin.planning.volume import (
    Checkpointing,
    checkpointing,
    decoding_memory,
    hardware_on,
    training_memory,
)
from tspin.planning.where import Target
from tspin.planning.work import Stage, Work, run_stages
from tspin.runs.inputs import fetch_data
from tspin.store import fetch
from tspin.tokens.loading import load_template

__all__ = ["PlannedStage", "RunPlan", "Total", "plan_run"]

_AT = {
    "proto": "generate",
    "generate": "generate",
    "heldout_proto": "generate",
    "train": "train",
    "base": "evaluate",
    "evaluate": "evaluate",
}
"""Stage of a run to stage of a profile; the join of triplets needs no place to compute."""


@dataclass(frozen=True)
class Total:
    """What a stage or several take."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    money: float | None = None
    """None where no place has a price."""

    def __add__(self, other: Total) -> Total:
        prices = [one.money for one in (self, other) if one.money is not None]
        return Total(
            self.seconds + other.seconds,
            self.gpu_hours + other.gpu_hours,
            sum(prices) if prices else None,
        )


@dataclass(frozen=True)
class PlannedStage:
    """One stage with what it takes."""

    stage: Stage
    place: Place | None
    """None for the join of triplets, which reads and writes files."""
    device: Device | None
    expected: Total
    most: Total
    memory: int
    """Bytes at the peak of one process: of a training, or of decoding."""
    batch: int
    """Responses decoded at a time; 0 where none are."""
    checkpoints: Checkpointing


@dataclass(frozen=True)
class RunPlan:
    """What a whole run takes, none of its iterations stopped by the gate."""

    config: RunConfig
    sizes: Sizes
    annotated: DataLengths
    heldout: DataLengths | None
    speeds: dict[str, Speed]
    """By stage of a profile: `generate`, `train`, `evaluate`."""
    stages: list[PlannedStage]
    tasks: list[TaskLengths]
    """Of each evaluation, as they were counted."""
    uncounted: dict[str, str]
    """Tasks that could not be, and why."""

    def total(self, *, most: bool = False, iterations: Iterable[int | None] | None = None) -> Total:
        """Of all stages, or of some iterations.

        Args:
            most: Where every response goes to max_new_tokens.
            iterations: Their numbers; None among them is what comes before the first.
        """
        chosen = None if iterations is None else {*iterations}
        parts = (
            one.most if most else one.expected
            for one in self.stages
            if chosen is None or one.stage.iteration in chosen
        )
        return sum(parts, Total())

    def work(self, *, most: bool = False) -> Work:
        """Of all stages together."""
        parts = (one.stage.most if most else one.stage.expected for one in self.stages)
        return sum(parts, Work())

    @property
    def disk(self) -> int:
        """Bytes of the run folder at its end, and of checkpoints at their peak."""
        return int(self.work().written) + max(one.checkpoints.disk for one in self.stages)

    @property
    def sent(self) -> int:
        """Bytes of checkpoints that go to a store."""
        return sum(one.checkpoints.sent for one in self.stages)


def plan_run(config: RunConfig, target: Target, *, utilisation: float) -> RunPlan:
    """Work out what a run takes; no weights are read, nothing is written.

    Args:
        config: Of the run; remote data are copied to this machine's cache.
        target: Where it is to run.
        utilisation: Share of a GPU's peak that training reaches, where it is not measured.

    Raises:
        InputError: data or model are missing, or the run would refuse them.
    """
    data = fetch_data(config)
    sizes = Sizes.of(config)
    annotated, heldout = data_lengths(config, data.annotated, data.heldout)
    tasks, uncounted = _counted_tasks(config)
    measured: Measured | None = None
    if target.measures:
        from tspin.planning.measuring import measure  # It loads all that training needs.

        measured = measure(config, sizes, data.annotated)
    speeds: dict[str, Speed] = {}
    for name, place in target.places.items():
        device = target.device_of(place)
        if measured is not None and (device is None or target.measure):
            speeds[name] = measured
        elif device is not None:
            speeds[name] = Stated(config, sizes, device, utilisation, target.vllm)
    stages = [
        _planned(config, sizes, target, speeds, stage)
        for stage in run_stages(config, sizes, annotated, heldout, tasks)
    ]
    return RunPlan(config, sizes, annotated, heldout, speeds, stages, tasks, uncounted)


def _counted_tasks(config: RunConfig) -> tuple[list[TaskLengths], dict[str, str]]:
    """What `evaluate.tasks` ask, and why of some that is not known: nothing is downloaded here."""
    counted: list[TaskLengths] = []
    uncounted: dict[str, str] = {}
    if config.data.heldout is None or not config.evaluate.tasks:
        return counted, uncounted
    own = config.evaluate.harness.task_folder
    folder = None if own is None else fetch(own)
    tokenizer = load_template(config.model.path, config.model, config.prompt).tokenizer
    for request in task_requests(config.evaluate):
        try:
            counted += task_lengths(request, folder, lambda text: len(tokenizer.encode(text)))
        except InputError as error:
            uncounted[request.name] = str(error)
    return counted, uncounted


def _planned(
    config: RunConfig, sizes: Sizes, target: Target, speeds: dict[str, Speed], stage: Stage
) -> PlannedStage:
    name = _AT.get(stage.kind)
    if name is None:
        nothing = Checkpointing(0, 0, 0)
        return PlannedStage(stage, None, None, Total(), Total(), 0, 0, nothing)
    place, speed = target.places[name], speeds[name]
    device = target.device_of(place)
    asked = config.system.num_processes
    sharing = place.gpus if asked == "auto" or name != "train" else asked
    parts = _shards(config, sizes, device, place, stage) if name == "evaluate" else 1
    # Each GPU does its part of an evaluation as if there were no other.
    sharing = 1 if parts > 1 else sharing
    works = [work.part(parts) for work in (stage.expected, stage.most)]
    expected, most = (_cost(speed.seconds(work, sharing), place) for work in works)
    batch = speed.batch(works[1], sharing)
    hardware = hardware_on(config, device, place.gpus)
    if stage.kind == "train":
        memory = training_memory(config, sizes, hardware, device)
    else:
        memory = decoding_memory(sizes, hardware, stage.most, batch)
    kept = checkpointing(config, sizes, stage.expected.steps, expected.seconds)
    return PlannedStage(stage, place, device, expected, most, memory, batch, kept)


def _shards(
    config: RunConfig, sizes: Sizes, device: Device | None, place: Place, stage: Stage
) -> int:
    """Over how many GPUs an evaluation is shared out (`tspin.evaluate.shards.processes`)."""
    asked = config.system.num_processes
    if device is None:
        return 1 if asked == "auto" else asked
    number = 4 if config.model.dtype == "float32" else 2
    whole = number * sizes.shape.parameters <= device.memory
    return place.gpus if whole and stage.expected.responses else 1


def _cost(seconds: float, place: Place) -> Total:
    if place.device is None:
        return Total(seconds)
    hours = seconds / 3600 * place.gpus
    return Total(seconds, hours, None if place.price is None else hours * place.price)
