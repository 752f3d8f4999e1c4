"""Where `tspin plan --profile` takes a run to compute: a profile's pools, with their prices."""

from __future__ import annotations

from tspin.planning.places import Place, Places
from tspin_pipelines.profiles.profile import load_profile
from tspin_pipelines.profiles.stage import Stage

__all__ = ["profile_places"]


def profile_places(profile: str) -> Places:
    """The places of the stages that compute.

    Args:
        profile: Its name or its path.

    Raises:
        InputError: there is no such profile.
    """
    stages = load_profile(profile).stages
    computing = {"generate": stages.generate, "train": stages.train, "evaluate": stages.evaluate}
    return {name: _place(stage) for name, stage in computing.items()}


def _place(stage: Stage) -> Place:
    if stage.accelerator is None:
        return Place(None)
    gpus = stage.accelerator.count * stage.nodes * stage.shards
    return Place(stage.accelerator.product, gpus, stage.price_per_gpu_hour)
