"""The shards of an evaluation put together: the files that one process would have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tspin.config import EvaluateConfig
from tspin.errors import InputError
from tspin.evaluate.job import BLOCK, Mode, modes_of, shard_parameters
from tspin.evaluate.shards.measurements import (
    Likelihoods,
    Measurements,
    read_shard,
    write_evaluation,
    write_shard,
)
from tspin.evaluate.tasks import TaskResults
from tspin.evaluate.temperature import FittedTemperature, copy_temperature, read_temperature
from tspin.files import atomic_file, write_json
from tspin.generate.shards import WHOLE, Shard, shards_by_index, whole_manifest
from tspin.harness.blocks import ReplayedModel, joined_answers
from tspin.harness.folders import task_files_hash
from tspin.harness.loading import harness_version, load_task
from tspin.harness.requests import TaskRequest, task_requests
from tspin.harness.scoring import score
from tspin.records.estimate import Likelihood
from tspin.records.manifest import Manifest, forget, is_current, read_manifest, write_manifest
from tspin.records.records import AnnotatedRecord, Response, read_records
from tspin.records.seconds import carry_seconds
from tspin.runs.folder import EvaluationFiles
from tspin.store import fetch

__all__ = ["merge_evaluations"]


def merge_evaluations(
    shards: Sequence[Path],
    *,
    annotated: Path,
    out: Path,
    of: Shard = WHOLE,
    signed: Manifest | None = None,
) -> Manifest:
    """Put the shards of an evaluation together; no model is loaded.

    The harness makes the scores of its tasks from all answers, so that groups and standard errors
    are those of one evaluation. It needs the tasks' questions for that.

    Args:
        shards: One file a shard as `tspin.evaluate.step.evaluate` wrote it, in any order, with what
            stands beside it.
        annotated: The held-out records.
        out: Where metrics.json goes.
        of: What the shards make together, where that is itself a shard: then its file.
        signed: Whose arithmetic the manifests are to have; None takes that of the first shard.

    Returns:
        The manifest of `out`, equal to that of an evaluation in one piece.

    Raises:
        InputError: a shard is missing or given twice, they belong to different policies, settings
            or records, what stands beside one is missing, or a task's data cannot be had.
    """
    parts = shards_by_index(shards, annotated, kind="metrics_shard", of=of)
    merging = _Merging(parts, annotated, out, of, signed)
    merged = merging.whole(parts, kind="metrics" if of == WHOLE else "metrics_shard")
    if is_current(out, merged):
        return read_manifest(out) or merged
    settings = _settings(merged)
    forget(out)
    measurements = merging.measurements(settings)
    requests = task_requests(settings)
    for request in requests:
        merging.task(request, settings, merged)
    if of == WHOLE:
        results = TaskResults(out, requests, settings.confidence)
        write_evaluation(out, merged, measurements, settings, results)
    else:
        write_shard(out, merged, measurements)
    if signed is None:  # Else the one who asked for the shards has been timed.
        carry_seconds(shards, out)
    return read_manifest(out) or merged


@dataclass(frozen=True)
class _Merging:
    parts: Sequence[tuple[Path, Manifest]]
    annotated: Path
    out: Path
    of: Shard
    signed: Manifest | None

    def whole(self, parts: Sequence[tuple[Path, Manifest]], kind: str) -> Manifest:
        """The manifest of what files of all shards, one of each, make together."""
        manifest = whole_manifest(parts, self.annotated)
        parameters = dict(manifest.parameters)
        parameters |= shard_parameters(self.of, parameters.pop(BLOCK, 0))
        changes: dict[str, Any] = {"kind": kind, "parameters": parameters, **self.computed()}
        return manifest.model_copy(update=changes)

    def computed(self) -> dict[str, Any]:
        """How it was computed, where the shards are not the ones to say so."""
        if self.signed is None:
            return {}
        names = ("arithmetic", "bytes_may_differ")
        return {name: getattr(self.signed, name) for name in names}

    def measurements(self, settings: EvaluateConfig) -> Measurements:
        """All shards' answers and likelihoods in the order of the records; files are written."""
        contents = [read_shard(path) for path, _ in self.parts]
        held = {identity: at for at, (ids, _) in enumerate(contents) for identity in ids}
        everything = read_records(self.annotated, AnnotatedRecord)
        records = [record for record in everything if record.id in held]
        ids = [record.id for record in records]
        answers = {mode: self._answers(mode, ids) for mode in modes_of(settings)}
        dropped = self.parts[0][1].dropped_ids.get("over_long", [])
        likelihoods = _joined([own for _, own in contents], ids)
        return Measurements(records, dropped, answers, likelihoods, self._temperature(settings))

    def _answers(self, mode: Mode, ids: Sequence[str]) -> dict[str, Response]:
        """The answers of one decoding, in one file."""
        files = [EvaluationFiles(path).answers(mode) for path, _ in self.parts]
        parts = shards_by_index(files, self.annotated, kind="responses", of=self.of)
        out = EvaluationFiles(self.out).answers(mode)
        manifest = self.whole(parts, "responses")
        if not is_current(out, manifest):
            lines = {
                orjson.loads(line)["id"]: line
                for path in files
                for line in path.read_bytes().splitlines(keepends=True)
            }
            forget(out)
            with atomic_file(out) as file:
                for identity in ids:
                    file.write(lines[identity])
            write_manifest(out, manifest)
        return {response.id: response for response in read_records(out, Response)}

    def _temperature(self, settings: EvaluateConfig) -> FittedTemperature | None:
        if not settings.fit_temperature:
            return None
        first, *others = [path for path, _ in self.parts]
        value = read_temperature(first).value
        for path in others:
            if (other := read_temperature(path).value) != value:
                raise InputError(
                    f"{path} and {first}: have the fitted temperatures {other!r} and {value!r}; "
                    "they were computed otherwise, and their answers do not belong together"
                )
        copy_temperature(first, self.out, **self.computed())
        return read_temperature(self.out)

    def task(self, request: TaskRequest, settings: EvaluateConfig, merged: Manifest) -> None:
        """The scores of one task from the answers of all shards; of a shard its answers.

        Args:
            request: The task.
            settings: Of the evaluation.
            merged: The manifest of metrics.json.
        """
        files = [EvaluationFiles(path).task(request.name) for path, _ in self.parts]
        out = EvaluationFiles(self.out).task(request.name)
        manifest = self.whole(_with_manifests(files), merged.kind)
        if is_current(out, manifest):
            return
        answers = joined_answers([json.loads(path.read_bytes()) for path in files], request.name)
        if self.of == WHOLE:
            model = ReplayedModel(answers, request.name)
            task = load_task(request, _task_folder(settings, merged))
            chat = bool(manifest.parameters["chat_template"])
            answers = score(model, task, chat_template=chat, seed=merged.seed or 0)
        forget(out)
        write_json(out, answers)
        write_manifest(out, manifest)


def _with_manifests(files: Sequence[Path]) -> list[tuple[Path, Manifest]]:
    parts = []
    for path in files:
        manifest = read_manifest(path) if path.is_file() else None
        if manifest is None:
            raise InputError(f"{path}: expected the answers to a task, with their manifest")
        parts.append((path, manifest))
    return parts


def _settings(manifest: Manifest) -> EvaluateConfig:
    """What an evaluation was asked for, by its manifest."""
    known = EvaluateConfig.model_fields
    values = {name: value for name, value in manifest.parameters.items() if name in known}
    version = manifest.parameters.get("lm_eval")
    if version is not None and version != harness_version():
        raise InputError(
            f"the tasks were asked with lm-eval {version}, and {harness_version()} is installed "
            "here; merge with the version that asked"
        )
    return EvaluateConfig.model_validate(values)


def _task_folder(settings: EvaluateConfig, merged: Manifest) -> Path | None:
    own = settings.harness.task_folder
    folder = None if own is None else fetch(own)
    if folder is not None and task_files_hash(folder) != merged.inputs.get("task_folder"):
        raise InputError(
            f"evaluate.harness.task_folder: {own}: is not what the shards were made with; it was "
            "changed since"
        )
    return folder


def _joined(shards: Sequence[Likelihoods], ids: Sequence[str]) -> dict[str, dict[str, Likelihood]]:
    """By role, the likelihoods of all shards in the order of the records."""
    roles = dict.fromkeys(role for shard in shards for role in shard)
    everything = {
        role: {identity: one for shard in shards for identity, one in shard.get(role, {}).items()}
        for role in roles
    }
    return {
        role: {identity: by_id[identity] for identity in ids if identity in by_id}
        for role, by_id in everything.items()
    }
