"""What each output was made from, written beside it as `<name>.manifest.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tspin.errors import InputError
from tspin.files import sha256_file, sha256_folder, sha256_listed, write_json
from tspin.records.arithmetic import Arithmetic, begun_path
from tspin.release import git_commit, installed_versions, newer_format, tspin_commit

__all__ = [
    "FORMAT",
    "MODEL_FILES",
    "RECORDED_LATER",
    "Manifest",
    "announce",
    "computed_with",
    "content_hash",
    "forget",
    "is_current",
    "is_shard",
    "journal_path",
    "listed_hash",
    "making_path",
    "manifest_path",
    "parse_manifest",
    "read_manifest",
    "refuse_contradiction",
    "write_manifest",
]

FORMAT = 1
"""Of the manifests that are written, and the last one that is read."""

MODEL_FILES = ("*.safetensors", "config.json", "adapter_config.json")
"""What makes a model folder's identity; tokenizers are covered by the template's hash."""

RECORDED_LATER = ("dtype", "attn_implementation", "task_engine")
"""Parameters of responses and metrics that the first manifests lack."""


class Manifest(BaseModel):
    """The provenance of one output. No times and no paths: equal work gives equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(FORMAT, le=FORMAT)
    """Of the manifest; those of releases that did not write one down have 1."""
    kind: Literal[
        "annotated", "responses", "triplets", "model", "metrics", "metrics_shard", "temperature"
    ]
    sha256: str = ""
    """Of the output itself; filled in by `write_manifest`."""
    inputs: dict[str, str] = {}
    """Role ('annotated', 'proto_synthetic', ...) to content hash; 'hub' to a name with a commit."""
    iteration: int | None = None
    model: str | None = None
    """Identity of the policy that was used: content hash, or Hub name with commit."""
    template: str | None = None
    """Hash of the prompt template."""
    engine: str | None = None
    parameters: dict[str, Any] = {}
    """Sampling or training parameters."""
    seed: int | None = None
    counts: dict[str, int] = {}
    """Rows kept, and dropped or marked, by reason."""
    dropped_ids: dict[str, list[str]] = {}
    """Reason to the ids of the records left out."""
    versions: dict[str, str] = {}
    git_commit: str | None = None
    """Of the folder that the command ran in: the user's project. Earlier releases put the commit of
    `tspin` here where they knew it, and had no `tspin_commit`."""
    tspin_commit: str | None = None
    """Of `tspin` itself: an image's, or that of the checkout which the package stands in."""
    arithmetic: Arithmetic | None = None
    """With what it was computed (of triplets: the responses in them); None is unknown."""
    bytes_may_differ: str | None = None
    """In what that differs from what the work was begun with, or its inputs were made with."""

    def asked(self) -> dict[str, Any]:
        """What was asked for, as JSON has it: all but the results and what made them."""
        results = {"sha256", "counts", "dropped_ids"}
        makers = {"versions", "git_commit", "tspin_commit", "arithmetic", "bytes_may_differ"}
        return self.model_dump(mode="json", exclude={"format"} | results | makers)

    @property
    def key(self) -> str:
        """Hex SHA-256 of what was asked for: names the work."""
        return hashlib.sha256(json.dumps(self.asked(), sort_keys=True).encode()).hexdigest()


def manifest_path(output: Path) -> Path:
    """Where the manifest of `output` stands."""
    return output.with_name(f"{output.name}.manifest.json")


def content_hash(path: Path) -> str:
    """Hex SHA-256 of a file, or of a model folder's weights and configuration."""
    return sha256_folder(path, *MODEL_FILES) if path.is_dir() else sha256_file(path)


def listed_hash(files: Mapping[str, str]) -> str:
    """The content hash of a model folder whose files' hashes are known.

    Args:
        files: Relative name to hex SHA-256; of any kind, only `MODEL_FILES` count.
    """
    counted = [n for n in files if any(PurePosixPath(n).match(p) for p in MODEL_FILES)]
    return sha256_listed({name: files[name] for name in counted})


def making_path(output: Path) -> Path:
    """The mark of an output that is being made again or put in place right now.

    A kill leaves it behind: it says that what stands there without a manifest is ours.
    """
    return output.with_name(f".{output.name}.making")


def journal_path(output: Path) -> Path:
    """Where finished responses stand until an output has its manifest.

    See `tspin.generate.journal`.
    """
    return output.with_name(f".{output.name}.partial.jsonl")


def forget(output: Path) -> None:
    """Take the manifest off an output that is about to be made again.

    Every step does so before it replaces an output: a crash between the new output and its new
    manifest then leaves an output that counts as not made, never one with a wrong manifest. An
    output that stands there is marked as ours (`making_path`) until it has a manifest again.
    """
    manifest = manifest_path(output)
    if output.exists() and manifest.is_file():
        manifest.replace(making_path(output))
    else:
        manifest.unlink(missing_ok=True)


def announce(output: Path) -> None:
    """As `forget`, for an output that is whole and about to get its name: a new one is marked."""
    forget(output)
    making_path(output).touch()


def write_manifest(output: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a finished output, completed with its hash and the versions.

    What kept the work until then goes: not before, for without a manifest all of it is made again.
    """
    complete = manifest.model_copy(
        update={
            "sha256": content_hash(output),
            "versions": installed_versions(),
            "git_commit": git_commit(Path.cwd()),
            "tspin_commit": tspin_commit(),
        }
    )
    write_json(manifest_path(output), complete.model_dump(mode="json"))
    for mark in (making_path(output), journal_path(output)):
        mark.unlink(missing_ok=True)
    return complete


def read_manifest(output: Path) -> Manifest | None:
    """The manifest beside `output`, or None if there is none.

    Raises:
        InputError: the manifest is damaged, or the output was changed after it was made.
    """
    path = manifest_path(output)
    if not path.is_file():
        return None
    manifest = parse_manifest(path.read_bytes(), path)
    if content_hash(output) != manifest.sha256:
        raise InputError(
            f"{output}: its content is not what {path.name} describes; it was changed after it was "
            "made. Delete both to make it again"
        )
    return manifest


def parse_manifest(content: bytes, place: Path | str) -> Manifest:
    """A manifest as it stands in a file; whether it belongs to an output is not looked at.

    Args:
        content: Of the file.
        place: Of the file, for the error.

    Raises:
        InputError: it is damaged, or a newer release wrote it.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{place}: {_refusal(content, error)}") from None


def computed_with(output: Path) -> Arithmetic | None:
    """With what an output was computed, by its manifest; None where nothing says so.

    The output itself is not read, as hashing a model takes longer than many a step.
    """
    path = manifest_path(output.absolute())
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes()).arithmetic
    except ValidationError:
        return None  # Whoever reads all of it says what is wrong.


def is_current(output: Path, wanted: Manifest) -> bool:
    """Whether `output` is in place, whole, and made from exactly what `wanted` says.

    Earlier releases wrote no parameter of `RECORDED_LATER` down, or a `dtype` of 'auto', which
    names no precision: what they made is current where all the rest agrees, so that a finished
    run is not computed again without a word.
    """
    if not output.exists() or not manifest_path(output).is_file():
        return False
    manifest = read_manifest(output)
    if manifest is None:
        return False
    recorded, asked = manifest.asked(), wanted.asked()
    if manifest.kind != "model":  # A model's manifest had the configured dtype from the beginning.
        for name in RECORDED_LATER:
            if recorded["parameters"].get(name, "auto") == "auto":
                recorded["parameters"].pop(name, None)
                asked["parameters"].pop(name, None)
    current = recorded == asked
    if current:
        # Whoever wrote the manifest may have been killed before doing so.
        for mark in (making_path(output), journal_path(output), begun_path(output)):
            mark.unlink(missing_ok=True)
    return current


def is_shard(output: Path) -> bool:
    """Whether an output with a manifest is a shard of an evaluation."""
    manifest = read_manifest(output)
    return manifest is not None and manifest.kind == "metrics_shard"


def refuse_contradiction(what: str, values: dict[str, str | None]) -> None:
    """Raise unless all known values agree.

    Args:
        what: What is compared, such as "prompt template".
        values: Where each value comes from, to the value; None is unknown and agrees with all.

    Raises:
        InputError: two sources name different values.
    """
    known = {source: value for source, value in values.items() if value is not None}
    if len(set(known.values())) > 1:
        listed = "\n".join(f"  {source}: {value}" for source, value in known.items())
        raise InputError(f"these do not belong together, their {what} differs:\n{listed}")


def _refusal(content: bytes, error: ValidationError) -> str:
    """Why that is no manifest, or what it takes to read it."""
    problems = error.errors(include_url=False)
    unknown = [str(one["loc"][0]) for one in problems if one["type"] == "extra_forbidden"]
    newer = [newer_format(one["input"], FORMAT) for one in problems if one["loc"] == ("format",)]
    if newer and newer[0]:
        return newer[0]
    if len(unknown) < len(problems):
        return f"not a manifest: {error}"
    maker = json.loads(content).get("versions", {}).get("tspin", "a newer release")
    own = installed_versions().get("tspin")
    return (
        f"has {', '.join(unknown)}, which this tspin ({own}) does not know; it was written by "
        f"tspin {maker}: update this one"
    )
