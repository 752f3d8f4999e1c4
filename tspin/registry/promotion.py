"""Promotion through the gate, and the way back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tspin.errors import InputError
from tspin.outputs import check_output, registry_folder
from tspin.records.estimate import Estimate, read_estimates
from tspin.records.manifest import RECORDED_LATER, Manifest, content_hash, read_manifest
from tspin.registry.champions import Registry
from tspin.registry.gate import PromotionGate
from tspin.registry.models import FileList
from tspin.registry.record import FORMAT, Record, now, user

__all__ = ["promote", "rollback"]

_NUMERICS = (*RECORDED_LATER, "quantize")
"""Parameters of metrics that say how they were computed, not what was measured."""


def promote(
    candidate: Path,
    *,
    metrics: Path,
    registry: str,
    metric: str,
    direction: Literal["max", "min"],
    min_gain: float = 0.0,
    certain: bool = True,
    by: str | None = None,
    run: str | None = None,
    git_commit: str | None = None,
) -> Record:
    """Make a model the champion if it is better than the champion.

    Returns the record of the champion. Killed anywhere, the old one stands or the new one does. The
    first model needs no gain; one that is the champion already is left alone.

    Args:
        candidate: The model's folder.
        metrics: Its metrics.json, beside its manifest.
        registry: A folder, or `s3://bucket/prefix`.
        metric: A name in metrics.json.
        direction: Whether more or less of it is better.
        min_gain: How much better, in units of the metric; below 0 allows a loss.
        certain: Whether the whole interval of the gain must reach `min_gain`.
        by: Who promotes; None is the user of this process.
        run: Where the model comes from: a name or an address.
        git_commit: What is promoted; None is where the model was measured.

    Raises:
        GateRefusedError: the candidate is not good enough, or the champion changed meanwhile.
        InputError: no such model or metrics, no `metric`, or another's; or no registry's folder.
        TspinError: the store cannot be reached.
    """
    opened = _opened(registry, candidate, metrics)
    measured, manifest = _measured(candidate, metrics, metric)
    champion = opened.champion()
    beaten = {} if champion is None else champion.metrics
    gate = PromotionGate(metric, direction, min_gain, certain, measured, beaten)
    if champion is not None:
        if champion.model == content_hash(candidate):
            return champion
        _refuse_other_evaluation(champion, manifest, metrics, opened.uri)
        gate.enforce()
    opened.probe()
    files = opened.add_model(candidate)
    record = _record(gate, candidate, manifest, champion, files, by=by, run=run, commit=git_commit)
    return opened.append(record)


def rollback(registry: str, *, to: int | None = None, by: str | None = None) -> Record:
    """Make an earlier champion the champion again.

    Args:
        registry: A folder, or `s3://bucket/prefix`.
        to: The number of its record; None is the last one with another model than today's.
        by: Who does it; None is the user of this process.

    Raises:
        InputError: there is no such champion to go back to.
        GateRefusedError: the champion changed meanwhile.
    """
    opened = Registry(registry)
    records = opened.records()
    if not records:
        raise InputError(f"{opened.uri}: nothing was promoted yet")
    current = records[-1]
    earlier = [record for record in records if record.model != current.model]
    if to is not None:
        earlier = [record for record in earlier if record.number == to]
    if not earlier:
        champion = "an earlier champion" if to is None else f"number {to} with another model"
        raise InputError(f"{opened.uri}: there is no {champion} to go back to")
    update = {
        "version": FORMAT,
        "number": current.number + 1,
        "kind": "rollback",
        "previous": current.number,
        "by": by or user(),
        "at": now(),
    }
    return opened.append(earlier[-1].model_copy(update=update))


def _opened(registry: str, candidate: Path, metrics: Path) -> Registry:
    inputs = [candidate, metrics]
    check_output(registry, registry_folder, folder=True, grows=True, inputs=inputs)
    return Registry(registry)


def _measured(
    candidate: Path, metrics: Path, metric: str
) -> tuple[Mapping[str, Estimate], Manifest]:
    """A model's metrics, `metric` among them, and their manifest."""
    if not (candidate / "config.json").is_file() and not list(candidate.glob("adapter_config.*")):
        raise InputError(f"{candidate}: no model here; expected a folder with config.json")
    manifest = read_manifest(metrics) if metrics.is_file() else None
    if manifest is None or manifest.kind != "metrics":
        raise InputError(f"{metrics}: expected metrics.json of an evaluation, with its manifest")
    measured = (manifest.model or "").partition("+")[0]
    if measured != content_hash(candidate):
        raise InputError(
            f"{metrics}: was measured on another model ({measured:.12}) than {candidate} "
            f"({content_hash(candidate):.12})"
        )
    estimates = read_estimates(metrics)
    if metric not in estimates:
        raise InputError(
            f"{metrics}: metric {metric!r} is not in it; it holds {', '.join(sorted(estimates))}"
        )
    return estimates, manifest


def _record(
    gate: PromotionGate,
    candidate: Path,
    manifest: Manifest,
    champion: Record | None,
    files: FileList,
    *,
    by: str | None,
    run: str | None,
    commit: str | None,
) -> Record:
    trained = read_manifest(candidate)
    return Record(
        version=FORMAT,
        number=1 if champion is None else champion.number + 1,
        kind="promote",
        model=files.model,
        files_sha256=files.sha256,
        identity=manifest.model or "",
        metrics=dict(gate.candidate),
        evaluation=_evaluation(manifest),
        numerics=_numerics(manifest),
        metric=gate.metric,
        direction=gate.direction,
        min_gain=gate.min_gain,
        previous=None if champion is None else champion.number,
        by=by or user(),
        at=now(),
        data={} if trained is None else trained.inputs,
        git_commit=commit or manifest.git_commit,
        run=run,
    )


def _refuse_other_evaluation(champion: Record, manifest: Manifest, metrics: Path, uri: str) -> None:
    if champion.evaluation != _evaluation(manifest):
        raise InputError(
            f"{metrics}: was not measured as the champion of {uri} was (other held-out records, "
            "template or settings); measure both in the same way, or begin a new registry"
        )
    # Manifests and records name a quantisation only where there is one.
    numerics, before = (
        {"quantize": "none", **values} for values in (_numerics(manifest), champion.numerics)
    )
    for name in sorted(before.keys() & numerics.keys()):
        if before[name] != numerics[name]:
            raise InputError(
                f"{metrics}: was measured with {name} {numerics[name]}, the champion of {uri} "
                f"with {before[name]}; measure both in the same way, or begin a new registry"
            )


def _evaluation(manifest: Manifest) -> str:
    """Hash of what makes two evaluations comparable: records, template, settings.

    Without what `_numerics` compares: records of earlier releases hold this hash.
    """
    parameters = {k: v for k, v in manifest.parameters.items() if k not in _NUMERICS}
    decisive = {
        "annotated": manifest.inputs.get("annotated"),
        "template": manifest.template,
        "parameters": parameters,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _numerics(manifest: Manifest) -> dict[str, str | None]:
    """How an evaluation computed: what is not in its manifest is left out, as it is not known."""
    known = {k: v for k, v in manifest.parameters.items() if k in _NUMERICS}
    return known if manifest.engine is None else {"engine": manifest.engine, **known}
