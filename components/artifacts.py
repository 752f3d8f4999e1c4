"""Outputs in the folders that a pipeline hands from pod to pod, and what each says of itself.

An artifact of Kubeflow is one path, an output of a step is a file or folder with its manifest
beside it: so every artifact is a folder that holds the output under the name of its role.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tspin.errors import InputError
from tspin.files import atomic_file, atomic_folder, sha256_file, sha256_folder, write_json
from tspin.outputs import artifact_folder, check_output
from tspin.records.estimate import read_estimates
from tspin.records.manifest import is_shard, manifest_path
from tspin.records.process_start import count_process_start
from tspin.records.seconds import carry_seconds
from tspin.records.training_log import TRAIN_LOG, read_train_log

__all__ = [
    "ANNOTATED",
    "METRICS",
    "MODEL",
    "RESPONSES",
    "TRIPLETS",
    "collect",
    "describe",
    "earlier_in",
    "metrics_in",
    "output_in",
    "paths_of",
    "policy_in",
    "publish_metrics",
    "publish_training",
    "records_in",
    "run_address",
    "write_reference",
]

ANNOTATED = "annotated.jsonl"
RESPONSES = "responses.jsonl"
TRIPLETS = "triplets.jsonl"
METRICS = "metrics.json"
MODEL = "model"

_REFERENCE = "reference.json"


def output_in(artifact: str, name: str) -> Path:
    """Where a step puts an output in a new artifact, whose folder is made.

    Raises:
        InputError: the folder holds something else.
    """
    folder = Path(artifact)
    ours = artifact_folder(name, TRAIN_LOG, manifest_path(Path(MODEL)).name)
    check_output(folder, ours, folder=True, grows=True)
    folder.mkdir(parents=True, exist_ok=True)
    count_process_start()  # A task's process is there for the step that follows.
    return folder / name


def paths_of(**artifacts: Any) -> dict[str, Path | None]:
    """The folders of optional input artifacts; None for those that a step was not given."""
    return {
        name: None if artifact is None else Path(artifact.path)
        for name, artifact in artifacts.items()
    }


def records_in(artifact: str) -> Path:
    """The records that an artifact holds: annotated records, responses or triplets.

    Raises:
        InputError: it holds none of them, or more than one.
    """
    named = [Path(artifact) / name for name in (ANNOTATED, RESPONSES, TRIPLETS)]
    files = [path for path in named if path.is_file()]
    if len(files) != 1:
        raise InputError(
            f"{artifact}: expected one of {ANNOTATED}, {RESPONSES} and {TRIPLETS}; found "
            f"{', '.join(path.name for path in files) or 'none'}"
        )
    return files[0]


def collect(artifact: str, synthetic: Path, earlier: list[Path]) -> None:
    """Make an artifact of the responses of several iterations, for `earlier_in`.

    Args:
        artifact: Folder of the artifact.
        synthetic: Responses of the latest, with their manifest beside them.
        earlier: Of those before, oldest first.
    """
    for number, source in enumerate([*earlier, synthetic], start=1):
        with atomic_folder(Path(artifact) / f"{number:04}") as folder:
            for path in (source, manifest_path(source)):
                shutil.copyfile(path, folder / path.name)


def earlier_in(artifact: Any) -> list[Path]:
    """The responses that `collect` put into an artifact, oldest first; none if there is none."""
    return [] if artifact is None else sorted(Path(artifact.path).glob(f"*/{RESPONSES}"))


def metrics_in(artifact: str) -> Path:
    """The metrics of an artifact, or the shard of an evaluation."""
    return Path(artifact) / METRICS


def write_reference(artifact: str, model: str, identity: str) -> None:
    """Make an artifact that names a model which every pod can read, without copying it.

    Args:
        artifact: Folder of the artifact.
        model: Where every pod can read it.
        identity: Of the policy.
    """
    write_json(output_in(artifact, _REFERENCE), {"path": model, "identity": identity})


def policy_in(artifact: str) -> str:
    """The model of an artifact: one that was trained, one that is named, or the folder itself.

    Raises:
        InputError: the reference in it is damaged.
    """
    folder = Path(artifact)
    reference = folder / _REFERENCE
    if reference.is_file():
        try:
            return str(json.loads(reference.read_bytes())["path"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{reference}: expected a JSON object with 'path'") from None
    return str(folder / MODEL if (folder / MODEL).is_dir() else folder)


def run_address(namespace: str, run_id: str, name: str) -> str:
    """A run as a registry's record names it, and mirrors read it (`tspin.mirrors.state`).

    Args:
        namespace: That it runs in.
        run_id: By which Kubeflow knows it; where one of both is empty, the name has to do.
        name: That its users read; any text.
    """
    if not (namespace and run_id):
        return name
    return f"kfp://{namespace}/{run_id}/{quote(name, safe='')}"


def describe(output: Path) -> dict[str, Any]:
    """An artifact's metadata: hash, bytes, iteration, and the output's whole manifest as JSON."""
    files = [output] if output.is_file() else [f for f in output.rglob("*") if f.is_file()]
    metadata: dict[str, Any] = {"bytes": sum(file.stat().st_size for file in files)}
    path = manifest_path(output)
    if not path.is_file():
        whole = sha256_file(output) if output.is_file() else sha256_folder(output, "*")
        return metadata | {"sha256": whole}
    manifest = path.read_text(encoding="utf-8")
    values = json.loads(manifest)
    metadata |= {"manifest": manifest, "sha256": values["sha256"]}
    if values["iteration"] is not None:
        metadata["iteration"] = values["iteration"]
    return metadata


def publish_training(model: Path, trained: Any, training: Any, scalars: Any) -> str:
    """Describe a trained model in the artifacts of its component.

    Args:
        model: As `tspin.train.step.train` leaves it, in the folder of `trained`.
        trained: Artifact of the model.
        training: Artifact that gets manifest and log without the weights.
        scalars: Artifact of the last logged step's numbers; kfp.local caches no task that leaves
            its file empty.

    Returns:
        The URI of the model.
    """
    log = model.with_name(TRAIN_LOG)
    carry_seconds([model], output_in(training.path, model.name))
    for path in (log, manifest_path(model)):
        with atomic_file(output_in(training.path, path.name)) as file:
            file.write(path.read_bytes())
    for artifact in (trained, training):
        artifact.metadata.update(describe(model))
    last = read_train_log(log)[-1]
    write_json(Path(scalars.path), last)
    for name, value in last.items():
        if isinstance(value, int | float):
            scalars.log_metric(name, value)
    return str(trained.uri)


def publish_metrics(metrics: Path, scalars: str) -> dict[str, float]:
    """The values of metrics.json by name, written to the file `scalars` too; a shard has none."""
    values = {}
    if not is_shard(metrics):
        values = {name: metric.value for name, metric in read_estimates(metrics).items()}
    write_json(Path(scalars), values)
    return values
