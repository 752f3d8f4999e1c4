"""The stages of `dvc repro`, written from a run configuration; DVC itself is not needed here."""

from tspin.project.stages import Stages
from tspin.project.sync import sync_stages

__all__ = ["Stages", "sync_stages"]
