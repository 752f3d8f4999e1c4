"""By what an output of ours is known, and by what it is known to be the same one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tspin.files import sha256_file
from tspin.outputs.standing import LocalStanding, Standing
from tspin.records.manifest import Manifest, content_hash

__all__ = [
    "Recognition",
    "artifact_folder",
    "begins_with",
    "checkpoint_folder",
    "comparison_folder",
    "copy_of",
    "equal_to",
    "history_folder",
    "made_from",
    "never_ours",
    "registry_folder",
    "report_page",
    "run_folder",
]

Recognition = Callable[[Standing], str | None]
"""Why what stands there is not the same output of ours; None where it is."""

Value = str | int | Path | Callable[[], str] | None
"""What a manifest must say: as it stands, the content hash of a path, or what a call gives."""

_FOREIGN = "is there already, and nothing says that tspin made it"
_REPORT = "· tspin report</title>".encode()
_RUN = {"run_dir", "iterations", "model", "data"}
"""What the config.json of a run has, and that of a model has not."""
_RUN_STARTS = {"inputs.json", "arithmetic.json"}
_MODEL_FILE = re.compile(
    r".*\.(safetensors|json|jinja|model)|README\.md|merges\.txt|vocab\.txt|"
    r"additional_chat_templates"
)


def never_ours(standing: Standing) -> str | None:
    """Of outputs that are only ever new."""
    return "is there already" + (", and not empty" if standing.is_folder else "")


def made_from(kind: str, **values: Value) -> Recognition:
    """Known by the manifest beside it: of this kind, and made from the same things.

    Parameters, seed, engine and template may differ: that is the same output, made anew.

    Args:
        kind: Of the manifest.
        values: `model`, `iteration`, `shard` (`i/n`), and inputs by role; None is not compared.
    """

    def recognise(standing: Standing) -> str | None:
        manifest = standing.manifest()
        if manifest is None:
            return _FOREIGN
        if manifest.kind != kind:
            return f"holds {manifest.kind} by its manifest, and would be replaced by {kind}"
        if kind == "model" and (foreign := _foreign_files(standing)):
            return f"holds files that belong to no model of ours: {foreign}"
        return _other_origin(manifest, values)

    return recognise


def _other_origin(manifest: Manifest, values: Mapping[str, Value]) -> str | None:
    for name, value in values.items():
        own: str | int | None = manifest.inputs.get(name)
        if name in ("model", "iteration"):
            own = getattr(manifest, name)
        elif name == "shard":
            own = str(manifest.parameters.get("shard", "0/1"))
        if own is not None and value is not None and own != _said(value):
            return f"was made from another {name.replace('_', '-')}"
    return None


def _said(value: Value) -> str | int | None:
    if isinstance(value, Path):
        return content_hash(value)
    return value() if callable(value) else value


def _foreign_files(standing: Standing) -> str:
    return ", ".join(name for name in standing.names() if not _MODEL_FILE.fullmatch(name))


def run_folder(standing: Standing) -> str | None:
    """Known by the config.json of a run, or by what its steps write before that."""
    config = standing.read("config.json")
    if config is not None:
        try:
            values = json.loads(config)
        except ValueError:
            values = None
        if isinstance(values, dict) and values.keys() >= _RUN:
            return None
        return "holds a config.json that is not a run's"
    steps = ("proto.jsonl.manifest.json", "heldout_proto.jsonl.manifest.json")
    names = [name for name in standing.names() if not name.startswith(".")]
    begun = any(name in steps or re.fullmatch(r"iter-\d+", name) for name in names)
    measured = standing.read("base/metrics.json.manifest.json") is not None
    if begun or measured or _RUN_STARTS.issuperset(names):
        return None
    return "holds files, and is no run folder"


def comparison_folder(standing: Standing) -> str | None:
    """Known by what a comparison writes into it."""
    names = [name for name in standing.names() if not name.startswith(".")]
    ours = any(name == "compare.json" or re.fullmatch(r"seed-\d+", name) for name in names)
    return None if ours or not names else "holds files, and is no comparison's folder"


def registry_folder(standing: Standing) -> str | None:
    """Known by its models and champions; what a run on Kubeflow reads may be there first."""
    names = [name for name in standing.names() if not name.startswith(".")]
    if {"models", "champion"}.intersection(names) or set(names) <= {"data"}:
        return None
    return "holds files, and is no registry"


def checkpoint_folder(standing: Standing) -> str | None:
    """Known by the key that says what training its checkpoints belong to."""
    names = [name for name in standing.names() if not name.startswith(".")]
    if "key.json" in names or set(names) <= {"lock"}:
        return None
    return "holds files that are no checkpoints, and would be deleted at the end of the training"


def artifact_folder(output: str, *beside: str) -> Recognition:
    """A folder that passes from pod to pod, known by an output of this name and what is with it.

    Args:
        output: Name of the output. Whether it has a manifest is for the step to say.
        beside: Further names.
    """
    stem = output.partition(".")[0]
    own = re.compile(rf"\.|{re.escape(stem)}(\.|$)")

    def recognise(standing: Standing) -> str | None:
        foreign = [n for n in standing.names() if not own.match(n) and n not in beside]
        return f"holds other files: {', '.join(foreign)}" if foreign else None

    return recognise


def history_folder(standing: Standing) -> str | None:
    """Known by what the gate of a pipeline keeps of all iterations."""
    return None if standing.read("models.json") is not None else "holds files, and is no history"


def report_page(standing: Standing) -> str | None:
    """Known by its title."""
    return None if _REPORT in (standing.read() or b"") else _FOREIGN


def begins_with(text: str) -> Recognition:
    """Of a text file, known by its beginning; an empty one holds nothing to lose."""

    def recognise(standing: Standing) -> str | None:
        content = standing.read()
        ours = content is not None and (not content or content.startswith(text.encode()))
        return None if ours else _FOREIGN

    return recognise


def equal_to(file: Path) -> Recognition:
    """A file with the same bytes as another one."""

    def recognise(standing: Standing) -> str | None:
        return None if standing.read() == file.read_bytes() else _FOREIGN

    return recognise


def copy_of(files: Mapping[str, str]) -> Recognition:
    """A folder of this machine with exactly these files.

    Args:
        files: Relative name to hex SHA-256.
    """

    def recognise(standing: Standing) -> str | None:
        folder = standing.path if isinstance(standing, LocalStanding) else None
        if folder is None or not standing.is_folder:
            return _FOREIGN
        paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        same = paths.keys() == files.keys() and all(
            sha256_file(path) == files[name] for name, path in paths.items()
        )
        return None if same else "holds something else"

    return recognise
