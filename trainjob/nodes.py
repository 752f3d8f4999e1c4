"""Which nodes a training gets, in the words of a profile; sent to the launching task as JSON."""

from __future__ import annotations

from pydantic import Field

from tspin.config.strict import Strict

__all__ = ["Nodes"]


class Nodes(Strict):
    """What a TrainJob asks for, beyond what its runtime says."""

    count: int = Field(gt=0)
    least: int = Field(gt=0)
    """As few as the training may go on with where one is lost."""
    wait_seconds: float = Field(gt=0)
    """How long one may be missing before it does."""
    processes: int = Field(gt=0)
    """Training processes a node: one a GPU."""
    namespace: str
    runtime: str
    """TrainingRuntime in the same namespace: placement, volumes, secrets, security."""
    image: str
    labels: dict[str, str] = Field(default_factory=dict)
    """Of the TrainJob: Kueue's queue and priority."""
    resources: dict[str, dict[str, str]]
    """Requests and limits of each node."""
    env: dict[str, str] = Field(default_factory=dict)
    shared: str = Field(pattern="^/")
    """Folder on a volume that the launching pod and all nodes mount at the same path."""
