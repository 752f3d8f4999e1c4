"""Bringing dvc.yaml up to date with params.yaml."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tspin.config import RunConfig, load_config
from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.project.stages import HUB_MODEL, WATCHED, Stages
from tspin.store import is_remote

__all__ = ["sync_stages"]

_OWN = (
    "check",
    "proto",
    "heldout-proto",
    "evaluate-initial",
    "generate",
    "triplets",
    "train",
    "evaluate",
    "finish",
)
_HEADER = (
    "# Written by `tspin dvc sync` from params.yaml. Stages of other names are left as they are.\n"
)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """What stages have in common is written out in each."""
        return True


def sync_stages(folder: Path, *, check: bool = False) -> bool:
    """Write the stages of the run that params.yaml describes into dvc.yaml.

    Args:
        folder: Of both files.
        check: Change nothing; fail where something would change.

    Returns:
        Whether something was changed.

    Raises:
        InputError: params.yaml is wrong or incomplete, or names what DVC cannot keep; dvc.yaml has
            other stages of these names; or with `check`, it is not up to date.
    """
    params, path = folder / "params.yaml", folder / "dvc.yaml"
    config = load_config(params)
    _refuse_gaps(params)
    _refuse_paths(folder, config)
    old = _mapping(path) if path.is_file() else {}
    _refuse_foreign_stages(path, old.get("stages") or {})
    kept = {name: s for name, s in (old.get("stages") or {}).items() if not _own(name)}
    hub = _on_hub(folder, config.model.path, kept)
    stages = Stages(config, hub=hub)
    plots = [plot for plot in old.get("plots") or [] if not _is_ours(plot)]
    new = old | {"stages": kept | stages.stages(), "plots": stages.plots() + plots}
    if new == old:
        return False
    if check:
        raise InputError(f"{path} was not written for this {params.name}; run: tspin dvc sync")
    text = yaml.dump(new, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    with atomic_file(path) as file:
        file.write((_HEADER + text).encode())
    if hub:
        named = {"model": config.model.path, "revision": config.model.revision}
        with atomic_file(folder / HUB_MODEL) as file:
            file.write(json.dumps(named, indent=2).encode() + b"\n")
    return True


def _refuse_gaps(params: Path) -> None:
    """DVC fails where a parameter that a stage watches is not in the file."""
    values = _mapping(params)
    missing = [name for name in WATCHED if name not in values]
    if missing:
        raise InputError(
            f"{params}: DVC watches sections that must be there: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; write '{missing[0]}: {{}}' for the "
            "defaults"
        )
    if "method" not in (values["train"] or {}):
        raise InputError(f"{params}: DVC watches train.method; write 'method: tspin' for it")


def _refuse_paths(folder: Path, config: RunConfig) -> None:
    """What DVC cannot keep, or would read otherwise."""
    run_dir, project = config.run_dir, folder.resolve()
    if is_remote(run_dir):
        raise InputError(
            f"run_dir is {run_dir!r}: DVC keeps outputs in the project's folder, and copies "
            "them to its own remote; name a folder in the project, or take `tspin run` for S3"
        )
    if not (project / run_dir).resolve().is_relative_to(project):
        raise InputError(
            f"run_dir is {run_dir!r}: outside of the project {project}, where DVC keeps no "
            "outputs; name a folder in the project, or take `tspin run` for another"
        )
    named = {"run_dir": run_dir, "model.path": config.model.path}
    named |= {f"data.{name}": value or "" for name, value in config.data.model_dump().items()}
    named["evaluate.harness.task_folder"] = config.evaluate.harness.task_folder or ""
    for name, value in named.items():
        if "${" in value:
            raise InputError(
                f"{name} is {value!r}: DVC puts a parameter in the place of '${{'; name "
                "another path"
            )


def _refuse_foreign_stages(path: Path, stages: dict[str, Any]) -> None:
    for name, stage in stages.items():
        if not _own(name):
            continue
        body = stage.get("do", stage) if isinstance(stage, dict) else {}
        if stage is not None and not str(body.get("cmd", "")).startswith("tspin "):
            raise InputError(
                f"{path}: has a stage '{name}' that tspin did not write and would overwrite; give "
                "it another name"
            )


def _own(name: str) -> bool:
    """Whether a stage has a name of ours; `triplets-2` is one of method tspin_all."""
    return name in _OWN or re.fullmatch(r"triplets-\d+", name) is not None


def _is_ours(plot: Any) -> bool:
    """Whether a plot is of the curves that the stage `finish` writes."""
    definition = next(iter(plot.values()), None) if isinstance(plot, dict) else None
    files = definition.get("y") if isinstance(definition, dict) else None
    return isinstance(files, dict) and all(
        str(file).endswith(("/iterations.json", "/training.json")) for file in files
    )


def _on_hub(folder: Path, model: str, kept: dict[str, Any]) -> bool:
    """Whether a model is neither here, nor in a store, nor made by a stage of one's own."""
    outputs = {Path(out) for stage in kept.values() for out in stage.get("outs", ())}
    local = (folder / model).exists() or any(Path(model).is_relative_to(out) for out in outputs)
    return not local and not is_remote(model)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping")
    return content
