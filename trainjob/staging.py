"""The files of one training on the volume that its launcher and its nodes share."""

from __future__ import annotations

import shutil
from pathlib import Path

from tspin.errors import TspinError
from tspin.files import atomic_file, atomic_folder, remove
from tspin.records.manifest import manifest_path
from tspin.records.seconds import carry_seconds
from tspin.records.training_log import TRAIN_LOG

__all__ = ["Staging"]


class Staging:
    """VOLUME/trainjobs/NAME; a second try finds and completes it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet."""
        self.folder = folder
        self.config = folder / "config.yaml"
        self.policy = folder / "policy"
        self.triplets = folder / "triplets.jsonl"
        self.model = folder / "model"
        self.train_log = folder / TRAIN_LOG

    def put(self, settings: str, model: str, triplets: Path) -> str:
        """Copy what the nodes read.

        Args:
            settings: The run configuration, JSON (which is YAML).
            model: The policy: a folder is copied; a name of the hub, or a folder on the same
                volume, stays where it is.
            triplets: With its manifest beside it.

        Returns:
            The policy, as the nodes find it.
        """
        with atomic_file(self.config) as file:
            file.write(settings.encode())
        _copy_file(triplets, self.triplets)
        _copy_file(manifest_path(triplets), manifest_path(self.triplets))
        volume = self.folder.parents[1]
        if not Path(model).is_dir() or Path(model).is_relative_to(volume):
            return model
        if not self.policy.is_dir():
            _copy_folder(Path(model), self.policy)
        _copy_file(manifest_path(Path(model)), manifest_path(self.policy))
        return str(self.policy)

    def command(self, policy: str, iteration: int) -> list[str]:
        """Arguments of `tspin` on each node: train what was put here."""
        files = {
            "--config": self.config,
            "--model": policy,
            "--triplets": self.triplets,
            "--iteration": iteration,
            "--out": self.model,
        }
        return ["train", *(str(part) for option in files.items() for part in option)]

    def take(self, out: Path) -> None:
        """Copy the trained model, its manifest and its log; the manifest last.

        Raises:
            TspinError: the nodes say that they are done, and there is no model.
        """
        if not manifest_path(self.model).is_file():
            raise TspinError(
                f"{self.model}: no model there, though the training is complete; do the nodes "
                "mount the same claim at the same path as the task that started them?"
            )
        _copy_file(self.train_log, out.with_name(TRAIN_LOG))
        carry_seconds([self.model], out)
        _copy_folder(self.model, out)
        _copy_file(manifest_path(self.model), manifest_path(out))

    def remove(self) -> None:
        """Delete the folder."""
        remove(self.folder)


def _copy_file(source: Path, target: Path) -> None:
    if source.is_file():
        with atomic_file(target) as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)


def _copy_folder(source: Path, target: Path) -> None:
    with atomic_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
