"""What a retraining is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tspin.errors import InputError

__all__ = ["Retraining"]


@dataclass(frozen=True)
class Retraining:
    """One push to retrain on; the working tree is what was pushed."""

    folder: Path
    """With params.yaml, under git and DVC."""
    registry: str
    """A folder, or `s3://bucket/prefix`."""
    mode: Literal["local", "kubeflow"] = "local"
    """`dvc repro` here, or a Kubeflow run."""
    since: str | None = None
    """The commit before the push; None, or one that git does not know, retrains in any case."""
    profile: str | None = None
    """Of the cluster, for mode kubeflow."""
    wait: bool = True
    """Whether to follow a Kubeflow run to its end, or to leave when it is submitted."""
    min_gain: float = 0.0
    """How much better than the champion, in units of gate.metric."""
    certain: bool = True
    """Whether the gain's whole interval must reach that, or its value alone."""
    summary: Path | None = None
    """Gets Markdown, whatever the outcome."""
    run: str | None = None
    """Name or address by which the registry's record finds the CI's job."""
    by: str | None = None
    """Who pushed; None is the user of this process."""
    mirrors: tuple[str, ...] = ()
    """That show the champion, too, as `--mirror` takes them."""
    mirror_name: str | None = None
    """Of the registered model there; None is made of the registry's URI."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done before anything is.

        Raises:
            InputError: no params.yaml; no profile for Kubeflow; nothing to leave to itself.
        """
        if not (self.folder / "params.yaml").is_file():
            raise InputError(f"{self.folder / 'params.yaml'}: no such file; expected a project")
        if self.mode == "kubeflow" and self.profile is None:
            raise InputError("mode kubeflow needs --profile: where the stages of the run run")
        if self.mode == "local" and not self.wait:
            raise InputError("--no-wait needs mode kubeflow: a local run is this process itself")
