"""config.json of a run folder: the resolved configuration, and the format of the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tspin.config import FORMAT, RunConfig, resolved
from tspin.errors import InputError
from tspin.files import read_object, write_json
from tspin.release import installed_versions, newer_format

__all__ = ["CONFIG", "read_run_config", "run_values", "write_run_config"]

CONFIG = "config.json"


def write_run_config(run_dir: Path, config: RunConfig) -> None:
    """Write the configuration that a run folder was made with."""
    write_json(run_dir / CONFIG, {"format": FORMAT, **resolved(config)})


def run_values(run_dir: Path) -> dict[str, Any] | None:
    """The settings as they were written, without the format; None where no run was begun.

    Raises:
        InputError: a newer release wrote them, or it is no object of JSON.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        return None
    values = read_object(path)
    if newer := newer_format(values.pop("format", 1), FORMAT):
        raise InputError(f"{path}: {newer}")
    return values


def read_run_config(run_dir: Path) -> RunConfig:
    """The configuration of a run.

    Raises:
        InputError: there is none, it is damaged, or a newer release wrote it.
    """
    path = run_dir / CONFIG
    values = run_values(run_dir)
    if values is None:
        raise InputError(
            f"{path}: no such file; expected a run folder, as `tspin run` makes at run_dir"
        )
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: {_refusal(error)}") from None


def _refusal(error: ValidationError) -> str:
    """Why that is no configuration, or what it takes to read it."""
    problems = error.errors(include_url=False)
    unknown = [
        ".".join(map(str, one["loc"])) for one in problems if one["type"] == "extra_forbidden"
    ]
    if len(unknown) < len(problems):
        return f"not the configuration of a run: {error}"
    own = installed_versions().get("tspin")
    return (
        f"has settings that this tspin ({own}) does not know: {', '.join(unknown)}; it was written "
        "by a newer one: update this one"
    )
