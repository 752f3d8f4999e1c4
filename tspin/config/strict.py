"""What every section of the configuration has in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from tspin.files import expanded

__all__ = ["Location", "Strict"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _location(value: Any) -> Any:
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str):
        return text
    if not text.strip():
        raise ValueError("is empty; expected a path")
    if _CONTROL.search(text):
        raise ValueError(
            "holds a line break or another control character, which cannot be quoted for a shell "
            "or stand in a list of files; rename the file or folder"
        )
    return expanded(text)


Location = Annotated[str, BeforeValidator(_location)]
"""A path, or `s3://bucket/key`; `~` is the home folder of whoever loads the configuration."""


class Strict(BaseModel):
    """Unknown keys are errors and values never change after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # The schema says what each setting means.
    )
