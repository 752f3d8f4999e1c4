"""What a mirror should hold: a version for each model that was a champion, and today's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tspin.errors import InputError
from tspin.registry import Record, Registry
from tspin.store import is_remote
from tspin.tracking.values import HELDOUT, named

__all__ = ["REGISTRY", "Property", "Source", "State", "Version", "is_ours", "name_of"]

Property = str | float | int

_OURS = "tspin."
REGISTRY = f"{_OURS}registry"
"""Property of the registered model: which registry it mirrors."""
_PIPELINE_RUN = re.compile(r"kfp://[^/]+/[^/]+/.*")
_NAME = re.compile(r"[\w][\w.-]*")


@dataclass(frozen=True)
class Source:
    """Where a model was made, in the words of Model Registry (`model_source_*`)."""

    kind: str
    group: str
    id: str
    name: str
    family: str
    """The `class` within the kind."""

    @classmethod
    def of(cls, record: Record, registry: str) -> Source:
        """The pipeline run that a record names; else its place in the registry.

        Args:
            record: Of the model.
            registry: URI of the registry.
        """
        run = record.run or ""
        if not _PIPELINE_RUN.fullmatch(run):
            return cls("tspin", registry, record.model, run or record.model[:12], "registry")
        namespace, number, name = run.removeprefix("kfp://").split("/", 2)
        return cls("kfp", namespace, number, unquote(name), "pipelinerun")


@dataclass(frozen=True)
class Version:
    """A model that was, or is, the champion."""

    model: str
    """Content hash, and the version's name."""
    uri: str
    author: str
    source: Source
    properties: dict[str, Property]
    """Lineage as `tspin.NAME`; metrics as in the tracker, each with its interval."""


@dataclass(frozen=True)
class State:
    """Of one registered model."""

    name: str
    registry: str
    number: int
    """Of the champion's record."""
    champion: str
    """Its model."""
    versions: tuple[Version, ...]
    """In the order in which they first became the champion."""

    @classmethod
    def of(cls, registry: Registry, name: str) -> State | None:
        """What a registry says now; None while nothing was promoted.

        Args:
            registry: That is mirrored.
            name: Of the registered model.

        Raises:
            TspinError: as `Registry.records`.
        """
        records = registry.records()
        if not records:
            return None
        # The last record of a model has its newest metrics; the first one its place.
        latest = {record.model: record for record in records}
        uri = registry.uri if is_remote(registry.uri) else Path(registry.uri).resolve().as_uri()
        versions = tuple(_version(record, uri) for record in latest.values())
        return cls(name, uri, records[-1].number, records[-1].model, versions)


def name_of(registry: str) -> str:
    """What a registry's models are called where nobody says: bucket and prefix, or the folder.

    Raises:
        InputError: the registry has no such name.
    """
    if is_remote(registry):
        parts = urlsplit(registry)
        name = "-".join(filter(None, [parts.netloc, *parts.path.split("/")]))
    else:
        name = Path(registry).resolve().name
    return checked_name(name)


def checked_name(name: str) -> str:
    """A name that both kinds of registries take.

    Raises:
        InputError: it has characters that MLflow refuses.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--mirror-name {name!r}: expected letters, digits, '.', '-' and '_', and no '.' or "
            "'-' as the first"
        )
    return name


def is_ours(name: str) -> bool:
    """Whether a property of a version is for us to set and to take away."""
    return name.startswith((_OURS, HELDOUT))


def _version(record: Record, registry: str) -> Version:
    properties: dict[str, Property] = {named(name): value for name, value in _properties(record)}
    return Version(
        model=record.model,
        uri=f"{registry}/models/{record.model}",
        author=record.by,
        source=Source.of(record, registry),
        properties=properties,
    )


def _properties(record: Record) -> Iterator[tuple[str, Property]]:
    texts = {
        "model": record.model,
        "identity": record.identity,
        "promoted_at": record.at,
        "promoted_by": record.by,
        "metric": record.metric,
        "evaluation": record.evaluation,
        "git_commit": record.git_commit,
        "run": record.run,
        **{f"data.{role}": content for role, content in record.data.items()},
    }
    yield from ((_OURS + name, value) for name, value in texts.items() if value)
    yield f"{_OURS}number", record.number
    for name, estimate in record.metrics.items():
        values = {"": estimate.value, ".low": estimate.low, ".high": estimate.high}
        for ending, value in values.items():
            if value is not None and math.isfinite(value):
                yield HELDOUT + name + ending, float(value)
