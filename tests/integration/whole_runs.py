"""A project of a tiny model that the tests of whole runs start, kill and look at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from training_runs import wait_for, write_sayings

from tests import warm
from tspin.records.manifest import content_hash
from tspin.records.seconds import SECONDS


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command of `tspin` in a folder, with one thread."""
    return warm.Popen(
        [sys.executable, "-m", "tspin", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hashes(run_dir: Path, *left_out: str) -> dict[str, str]:
    """Of all files of a run, but for what tells how long it took, and these names."""
    names = {".lock", "report.html", *left_out}
    return {
        str(path.relative_to(run_dir)): content_hash(path)
        for path in run_dir.rglob("*")
        if path.is_file() and path.name not in names and SECONDS not in path.name
    }


class Project:
    """A folder with data, a configuration, and the command that runs it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        folder.mkdir()
        write_sayings(folder, annotated=12, heldout=6)
        (folder / "run.yaml").write_text(
            f"run_dir: runs/r\niterations: 2\nmodel: {{path: {model}}}\n"
            "data: {annotated: annotated.jsonl, heldout: heldout.jsonl}\n"
            "prompt: {template: instruction, max_length: 128}\n"
            "generate: {max_new_tokens: 12}\n"
            "train: {epochs: 1, learning_rate: 1.0e-3, global_batch_size: 4}\n"
            "evaluate: {max_records: 4}\n"
            "system: {generate_batch_size: 4, checkpoint_steps: 1}\n"
        )

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs/r"

    def start(self, *options: str) -> subprocess.Popen[str]:
        return started(self.folder, "run", "--config", "run.yaml", *options)

    def run(self, *options: str) -> tuple[int, str, str]:
        process = self.start(*options)
        out, err = process.communicate()
        return process.returncode, out, err

    def kill_when(self, *made: str, options: tuple[str, ...] = ()) -> None:
        """Start the run and SIGKILL it as soon as one of the paths exists."""
        process = self.start(*options)
        wait_for(process, lambda: any(list(self.run_dir.glob(pattern)) for pattern in made))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def outputs(self) -> dict[str, str]:
        """Hashes of everything a run leaves, but for what tells how long it took."""
        return hashes(self.run_dir)
