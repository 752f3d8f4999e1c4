"""Pipelines run by kfp itself on this machine: real tasks in processes of their own."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import local

from pipelines.graphs import GRAPHS
from pipelines.plan import Plan
from pipelines.profile import Profile, load_profile
from tspin.config import RunConfig, load_config
from tspin.records import AnnotatedRecord, read_records, write_records

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"
BASE = Path(__file__).parents[1] / "tspin/demo/base"


@dataclass
class LocalKubeflow:
    """A pipeline root, a cache, and the demo's configuration on a little of its data."""

    folder: Path
    runs: list[Path] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Where kfp puts the artifacts."""
        return self.folder / "root"

    def config(self, *overrides: str, heldout: bool = True) -> RunConfig:
        """The demo's configuration on 16 annotated and 8 held-out records, short responses."""
        given = {
            "run_dir": self.folder / "run",
            "iterations": 2,
            "model.path": BASE,
            "data.annotated": self._data("annotated", 16),
            "data.heldout": self._data("heldout", 8) if heldout else "null",
            "generate.max_new_tokens": 24,
            "train.global_batch_size": 4,
            "system.train_batch_size": 4,
            "gate.metric": "nll_per_token",
            "gate.direction": "min",
            "gate.margin": 10 if heldout else "null",
            "system.checkpoints": self.folder / "checkpoints",
        }
        settings = [f"{name}={value}" for name, value in given.items()]
        return load_config(DEMO, [*settings, *overrides])

    def run(self, name: str, config: RunConfig, *, given: Any = None, **plan: Any) -> None:
        """Run a pipeline to its end.

        Args:
            name: Of the pipeline.
            config: Of the run.
            given: Parameters of the pipeline.
            plan: The rest of what it is compiled from.

        Raises:
            RuntimeError: a task failed.
        """
        before = set(self.root.glob("*"))
        runner = local.SubprocessRunner(use_venv=False)
        local.init(
            runner,
            pipeline_root=str(self.root),
            enable_caching=True,
            cache_root=str(self.folder / "cache"),
        )
        # Its own: it prints each task's log, and under a test runner twice.
        logging.getLogger().setLevel(logging.ERROR)
        graph = GRAPHS[name](Plan(config, _impatient(load_profile("cpu")), **plan))
        try:
            graph(**(given or {}))
        finally:
            made = set(self.root.glob("*")) - before
            self.runs.append(made.pop() if made else self.root / "none")

    def tasks(self, run: int = -1) -> Counter[str]:
        """How many tasks of each component of a run were executed, not taken from the cache."""
        outputs = self.runs[run].rglob("executor_output.json")
        return Counter(_component(path.parent.name) for path in outputs)

    def one(self, component: str, output: str, run: int = -1) -> Path:
        """The output of the only executed task of a component."""
        found = self.all(component, output, run)
        assert len(found) == 1, found
        return found[0]

    def all(self, component: str, output: str, run: int = -1) -> list[Path]:
        """An output of all executed tasks of a component, in the order of their making."""
        folders = (path.parent for path in self.runs[run].rglob("executor_output.json"))
        made = [folder / output for folder in folders if _component(folder.name) == component]
        return sorted(made, key=lambda path: path.stat().st_mtime_ns)

    def metadata(self, component: str, output: str, run: int = -1) -> dict[str, Any]:
        """The metadata of that artifact."""
        written = self.one(component, output, run).parent / "executor_output.json"
        artifacts = json.loads(written.read_bytes())["artifacts"]
        found: dict[str, Any] = artifacts[output]["artifacts"][0]["metadata"]
        return found

    def _data(self, name: str, count: int) -> Path:
        from tspin.demo import write_demo

        path = self.folder / f"{name}.jsonl"
        if not path.is_file():
            write_demo(self.folder / "demo")
            records = list(read_records(self.folder / f"demo/{name}.jsonl", AnnotatedRecord))
            write_records(path, records[:count])
        return path


def _impatient(profile: Profile) -> Profile:
    """Without retries, which wait."""
    values = profile.model_dump()
    for stage in values["stages"].values():
        stage["retry"]["limit"] = 0
    return Profile.model_validate(values)


def _component(task: str) -> str:
    name, _, number = task.rpartition("-")
    return name if number.isdecimal() else task
