"""Names and labels as Kubernetes takes them; what it would refuse later is refused at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Annotations", "Digest", "Labels", "Name", "Variable"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""Of an object: a claim, a Secret, an account."""

LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
Annotations = dict[LabelKey, str]
"""Of a pod: keys as labels have them, any text as a value."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]
"""Of a pod or a node."""

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""An environment variable's name."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""Of an image, as a registry gives it."""
