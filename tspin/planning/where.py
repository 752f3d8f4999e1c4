"""Where a planned run would compute: this machine, a GPU by name, or the pools of a profile."""

from __future__ import annotations

from dataclasses import dataclass

from tspin.config import RunConfig
from tspin.engines.choice import engine_name
from tspin.errors import InputError
from tspin.machine.hardware import find_gpus
from tspin.planning.devices import Device, find_device
from tspin.planning.places import Place, Places

__all__ = ["Target"]

_STAGES = ("generate", "train", "evaluate")


@dataclass(frozen=True)
class Target:
    """The places of a run, and how its speed there becomes known."""

    places: Places
    measure: bool
    """Whether this machine's speed is measured although it has a GPU that is known."""
    vllm: bool
    """Whether vLLM generates there."""
    named: str | None = None
    """A GPU that stands for those that the places name."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        device: str | None = None,
        gpus: int | None = None,
        places: Places | None = None,
        measure: bool = False,
    ) -> Target:
        """Decide from what the user has asked for.

        Args:
            config: Of the run.
            device: A GPU by name, instead of this machine's, or of those of a profile.
            gpus: How many; of `device` alone.
            places: Of a profile.
            measure: Measure this machine.

        Raises:
            InputError: the wishes contradict each other, a GPU is unknown, or none is named.
        """
        _refuse_contradiction(config, device, gpus, places, measure)
        # A pod's image has vLLM, and a machine with the named GPU most often.
        elsewhere = config.generate.engine in ("auto", "vllm")
        if places is not None:
            target = cls(places, measure, elsewhere, device)
        elif device is not None:
            place = Place(device, gpus or _processes(config) or 1)
            target = cls(dict.fromkeys(_STAGES, place), measure=False, vllm=elsewhere)
        else:
            place = _here(config)
            vllm = place.device is not None and engine_name(config) == "vllm"
            target = cls(dict.fromkeys(_STAGES, place), measure, vllm)
        for place in target.places.values():
            target.device_of(place)
        return target

    @property
    def measures(self) -> bool:
        """Whether anything is measured here."""
        return self.measure or any(place.device is None for place in self.places.values())

    def device_of(self, place: Place) -> Device | None:
        """The GPU of a place; None for a CPU.

        Raises:
            InputError: it is not known, and not this machine's, which is measured.
        """
        if place.device is None:
            return None
        if self.measure:
            here = find_gpus()[0]
            return Device(here.name, 0, 0, here.total, here.bfloat16)
        return find_device(self.named or place.device)


def _processes(config: RunConfig) -> int | None:
    asked = config.system.num_processes
    return None if asked == "auto" else asked


def _here(config: RunConfig) -> Place:
    gpus = [] if config.system.device == "cpu" else find_gpus()
    if gpus:
        return Place(gpus[0].name, len(gpus))
    if config.system.device == "cuda":
        raise InputError(
            "system.device is 'cuda' and torch sees no GPU here; name the one that the run is for, "
            "such as --device h100 --gpus 8, or a profile with --profile"
        )
    return Place(None, _processes(config) or 1)


def _refuse_contradiction(
    config: RunConfig, device: str | None, gpus: int | None, places: Places | None, measure: bool
) -> None:
    if gpus is not None and (device is None or places is not None):
        raise InputError("--gpus is how many of --device there are; a profile says its own")
    pooled = places is not None and any(place.device for place in places.values())
    if measure and (device is not None or pooled):
        raise InputError(
            "--measure measures this machine, and --device or a profile with GPUs names another; "
            "give one of the two"
        )
    if config.system.device == "cpu" and (device is not None or pooled):
        raise InputError("system.device is 'cpu', and a GPU is named; set it to 'auto' or 'cuda'")
