"""What a project says of its cluster once, for its manifests and its CI alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tspin.config.strict import Strict
from tspin_pipelines.profiles.names import Variable

__all__ = ["Project"]

Line = Annotated[str, Field(pattern=r"^[^\r\n]*$")]
"""A value that cannot begin another setting where CI reads NAME=VALUE lines."""


class Project(Strict):
    """The section `project` of a profile of one's own."""

    manifests: str = Field(pattern=r"^[^\s?]*[^\s?/]$")
    """Where tspin's `k8s/` is: the URL of a git repository, or a folder from the profile's."""
    registry: str = Field(pattern=r"^\S+$")
    """Where the best models are promoted."""
    artifacts: str = Field(pattern=r"^(s3|gs|minio)://[^\s/]+(/\S*)?$")
    """Where Kubeflow keeps what passes from step to step: `defaultPipelineRoot` of kfp-launcher."""
    mlflow: str | None = Field(None, pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$")
    """Address of an MLflow tracking server, which the network policies then let pods reach."""
    settings: dict[Variable, Line] = Field(default_factory=dict)
    """Of the ConfigMap `tspin-s3`: environment of every pod, and of CI."""

    def environment(self, profile: str) -> dict[str, str]:
        """What `tspin retrain` and the S3 client read from the environment.

        Args:
            profile: The path by which commands name this profile.
        """
        return {
            "RETRAIN_MODE": "kubeflow",
            "RETRAIN_REGISTRY": self.registry,
            "RETRAIN_PROFILE": profile,
            **self.settings,
        }
