"""How long a pipeline's run may take, and how long the cluster keeps what is left of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tspin.config.strict import Strict

__all__ = ["Lifetime"]

Seconds = Annotated[int, Field(gt=0, lt=2**31)]


class Lifetime(Strict):
    """What Argo does to the workflow of a run; None leaves it alone.

    Kubeflow keeps the run itself, with parameters, artifacts and metrics, in its database.
    """

    deadline_seconds: Seconds | None = None
    """From the start of the run, waits in queues included; what is not over then is stopped."""
    keep_seconds: Seconds | None = None
    """From the end of a run until its pods, and what they printed, are deleted."""
    keep_failed_seconds: Seconds | None = None
    """The same of a run that failed; keep_seconds otherwise."""
