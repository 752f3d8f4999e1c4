"""What a model says of how it is sampled from: its generation_config.json, kept as it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tspin.config import ModelConfig
from tspin.errors import InputError
from tspin.files import read_object, write_json
from tspin.models.folder import ModelFolder

__all__ = ["end_ids", "generation_settings", "write_end_ids"]

_FILE = "generation_config.json"
_END = "eos_token_id"


def generation_settings(folder: ModelFolder, config: ModelConfig) -> dict[str, Any] | None:
    """The content of a model's generation_config.json; None where there is none.

    An adapter without one has that of its base.

    Raises:
        InputError: a damaged file, or end tokens that are no ids.
    """
    path = folder.path / _FILE
    if path.is_file():
        settings = read_object(path)
        _listed(settings, path)
        return settings
    return (
        generation_settings(folder.base(config, weights=False), config)
        if (folder.is_adapter)
        else None
    )


def end_ids(folder: ModelFolder, config: ModelConfig) -> tuple[int, ...]:
    """The tokens that end a generation: all of `eos_token_id` in generation_config.json.

    Without that file, those of config.json, which transformers and vLLM take in its place.

    Raises:
        InputError: a damaged file, or end tokens that are no ids.
    """
    settings = generation_settings(folder, config)
    path = folder.path / _FILE
    if settings is None:
        base = folder.base(config, weights=False) if folder.is_adapter else folder
        path = base.path / "config.json"
        own = read_object(path)
        settings = own if _END in own else own.get("text_config") or {}
    return tuple(index for index in _listed(settings, path) if index >= 0)


def write_end_ids(folder: Path, ends: Iterable[int], settings: dict[str, Any] | None) -> None:
    """Write generation_config.json: settings as they are, but for further tokens that end.

    Args:
        folder: Of a model.
        ends: All tokens that end a generation; those that the settings lack come after theirs.
        settings: Of the model that this one was made from; None keeps those that stand there.
    """
    path = folder / _FILE
    before = read_object(path) if path.is_file() else {}
    settings = before if settings is None else settings
    named = _listed(settings, path)
    new = sorted(set(ends) - set(named))
    if new:
        # transformers marks settings that it made from config.json; these are no longer such.
        settings = {k: v for k, v in settings.items() if k != "_from_model_config"}
        settings[_END] = [*named, *new]
    if settings != before:
        write_json(path, settings)


def _listed(settings: dict[str, Any], path: Path) -> list[int]:
    named = settings.get(_END)
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if any(isinstance(index, bool) or not isinstance(index, int) for index in ends):
        raise InputError(f"{path}: {_END} is {named!r}; expected a token id or a list of them")
    return ends
