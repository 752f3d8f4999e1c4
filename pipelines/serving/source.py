"""Where a pod finds a model: on the Hub, in a store, or on a claim that the profile mounts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from tspin.errors import InputError
from tspin_pipelines.profiles.stage import Volume
from tspin_pipelines.serving.champion import Adapter

__all__ = ["Claim", "Hub", "Source", "Stored", "base_source", "on_claim"]

_CLAIM = re.compile(r"pvc://([a-z0-9]([-a-z0-9.]*[a-z0-9])?)/?(.*)")
_HUB = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+|[\w.-]+)(?::([\w.-]+))?")


@dataclass(frozen=True)
class Hub:
    """A model of the Hugging Face Hub."""

    name: str
    revision: str | None

    @property
    def uri(self) -> str:
        """As KServe writes it."""
        return f"hf://{self.name}" + (f":{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Claim:
    """A folder on a PersistentVolumeClaim."""

    name: str
    path: str
    """From the root of the volume."""

    @property
    def uri(self) -> str:
        """As KServe writes it."""
        return f"pvc://{self.name}/{self.path}"


@dataclass(frozen=True)
class Stored:
    """A prefix of an object store."""

    uri: str


Source = Hub | Claim | Stored


def on_claim(folder: str, volumes: Iterable[Volume]) -> Claim | None:
    """The claim that a folder stands on, by where the profile mounts it; None for none."""
    path = PurePosixPath(folder.removeprefix("file://"))
    for volume in volumes:
        if path.is_relative_to(volume.path):
            return Claim(volume.claim, str(path.relative_to(volume.path)))
    return None


def base_source(adapter: Adapter, given: str | None, volumes: Iterable[Volume]) -> Source:
    """Where a pod finds the base of an adapter.

    Args:
        adapter: Names the base as it was found where it was trained.
        given: The user's word instead: a name on the Hub or `hf://NAME:REVISION`, `s3://...`,
            `pvc://CLAIM/PATH`, or a path that the profile mounts.
        volumes: Of the stage that serves.

    Raises:
        InputError: no pod would find it there.
    """
    place = given or adapter.base
    if place.startswith(("s3://", "gs://", "az://")):
        return Stored(place.rstrip("/"))
    if match := _CLAIM.fullmatch(place):
        return Claim(match[1], match[3].rstrip("/"))
    if place.startswith("/"):
        claim = on_claim(place, volumes)
        if claim is not None:
            return claim
    elif match := _HUB.fullmatch(place):
        revision = match[2] or (None if given else adapter.revision)
        return Hub(match[1], revision)
    raise InputError(
        f"the adapter's base is {place or 'not named'!r}, which no pod finds: no volume of the "
        "profile's stage 'generate' holds it. Name it with --base: a name on the Hub, s3://..., "
        "pvc://CLAIM/PATH, or a path below one of these volumes"
    )
