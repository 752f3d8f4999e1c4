"""Which nodes, and which flavors of Kueue, a pod may be placed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tspin.config.strict import Strict

__all__ = ["Match", "Placement", "Toleration"]


class Toleration(Strict):
    """A taint that the stage may land on."""

    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] = "NoSchedule"

    @model_validator(mode="after")
    def _value(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("a toleration has a value with operator Equal and none with Exists")
        return self

    def covers(self, taint: Mapping[str, Any]) -> bool:
        """Whether a taint of a node does not keep the pod away."""
        same = (taint["key"], taint["effect"]) == (self.key, self.effect)
        return same and (self.operator == "Exists" or taint.get("value", "") == self.value)


class Match(Strict):
    """A condition on a node's label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values(self) -> Self:
        if bool(self.values) == (self.operator in ("Exists", "DoesNotExist")):
            raise ValueError(f"operator {self.operator} does not go with values {self.values}")
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels meets it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists" | "DoesNotExist":
                return (value is not None) == (self.operator == "Exists")
            case _ if value is None:
                return False
            case _:
                limit, size = int(self.values[0]), int(value)
                return size > limit if self.operator == "Gt" else size < limit


class Placement(Strict):
    """What a pod says of its node."""

    selector: dict[str, str] = Field(default_factory=dict)
    required: tuple[Match, ...] = ()
    """All must hold."""
    tolerations: tuple[Toleration, ...] = ()

    def takes(
        self, labels: Mapping[str, str], taints: Iterable[Mapping[str, Any]], *, known: bool = True
    ) -> bool:
        """Whether the pod may be put on a node.

        Args:
            labels: Of the node, or of a flavor of Kueue.
            taints: Of it.
            known: Whether these are all labels. A flavor names those that tell it from others,
                and Kueue looks at no other (`flavorSelector` of its flavorassigner, 0.19).
        """
        matches = [Match(key=key, values=(value,)) for key, value in self.selector.items()]
        matches += self.required
        kept = [taint for taint in taints if taint["effect"] != "PreferNoSchedule"]
        return all(
            match.holds(labels) for match in matches if known or match.key in labels
        ) and all(any(one.covers(taint) for one in self.tolerations) for taint in kept)
