"""What several kinds have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tspin.config.strict import Strict

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=253)]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[kMGT]i?)?$")]
Labels = dict[str, str]


class Metadata(Strict):
    """Of any object; the rest is the server's to fill in."""

    name: Name
    namespace: Name | None = None
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class Taint(Strict):
    key: str
    value: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
