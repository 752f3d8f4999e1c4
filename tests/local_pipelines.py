"""Pipelines run by kfp itself on this machine: real tasks in processes of their own."""

from __future__ import annotations

import builtins
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import local
from kfp.local import subprocess_task_handler
from pytest import MonkeyPatch

from tests import warm
from tspin.config import RunConfig, load_config
from tspin.demo.demo import write_demo
from tspin.records.records import AnnotatedRecord, read_records, write_records
from tspin_pipelines.graph.graphs import GRAPHS
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import Profile, load_profile

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"


@dataclass
class LocalKubeflow:
    """A pipeline root, a cache, and the demo's configuration on a little of its data."""

    folder: Path
    runs: list[Path] = field(default_factory=list)
    runner: Any = None
    """None runs tasks as processes."""
    registry: str = "tspin"
    """Of the images, for runners that use them."""

    @property
    def root(self) -> Path:
        """Where kfp puts the artifacts."""
        return self.folder / "root"

    @property
    def shared(self) -> Path:
        """What tasks read and write besides: below the root, which is all that containers see."""
        return self.root / "shared"

    def config(self, *overrides: str, heldout: bool = True) -> RunConfig:
        """The demo's configuration on 16 annotated and 8 held-out records, short responses."""
        given = {
            "run_dir": self.shared / "run",
            "iterations": 2,
            "model.path": self.shared / "demo/base",
            "data.annotated": self._data("annotated", 16),
            "data.heldout": self._data("heldout", 8) if heldout else "null",
            "generate.max_new_tokens": 24,
            "evaluate.tasks": "[]",
            "train.global_batch_size": 4,
            "system.tokens_per_device": 400,
            "gate.metric": "nll_per_token",
            "gate.direction": "min",
            "gate.margin": 10 if heldout else "null",
            "system.checkpoints": self.shared / "checkpoints",
        }
        settings = [f"{name}={value}" for name, value in given.items()]
        return load_config(DEMO, [*settings, *overrides])

    def run(
        self,
        name: str,
        config: RunConfig,
        *,
        given: Any = None,
        profile: Profile | None = None,
        **plan: Any,
    ) -> None:
        """Run a pipeline to its end.

        Args:
            name: Of the pipeline.
            config: Of the run.
            given: Parameters of the pipeline.
            profile: `cpu` by default.
            plan: The rest of what it is compiled from.

        Raises:
            RuntimeError: a task failed.
        """
        before = set(self.root.glob("tspin-*"))
        local.init(
            self.runner or local.SubprocessRunner(use_venv=False),
            pipeline_root=str(self.root),
            enable_caching=True,
            cache_root=str(self.folder / "cache"),
        )
        placed = _impatient(profile or load_profile("cpu"), self.registry)
        graph = GRAPHS[name](Plan(config, placed, **plan))
        root = logging.getLogger()
        level = root.level
        # kfp prints each task's log itself, and under a test runner twice.
        root.setLevel(logging.ERROR)
        try:
            with MonkeyPatch.context() as patched:
                patched.setattr(subprocess_task_handler, "run_local_subprocess", _run_task)
                # kfp indents what tasks print by a `print` of its own. Of two tasks at the same
                # time, the one that ends last puts back the other's.
                patched.setattr(builtins, "print", print)
                graph(**(given or {}))
        finally:
            root.setLevel(level)
            made = set(self.root.glob("tspin-*")) - before
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
        path = self.shared / f"{name}.jsonl"
        if not path.is_file():
            write_demo(self.shared / "demo")
            records = list(read_records(self.shared / f"demo/{name}.jsonl", AnnotatedRecord))
            write_records(path, records[:count])
        return path


_TASK = """program_path=$(mktemp -d)
printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true {python} -m kfp.dsl.executor_main
--component_module_path "$program_path/ephemeral_component.py" "$@"
"""
"""The script that kfp runs for a component, whose source is `$0`."""


def _run_task(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
    """As kfp's own function, with a warm process in place of a new interpreter."""
    shell, option, script, component, *arguments = full_command
    expected = _TASK.format(python=sys.executable)
    assert (shell, option, script.split()) == ("sh", "-ec", expected.split())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ephemeral_component.py"
        path.write_text(component, encoding="utf-8")
        command = [sys.executable, "-m", "kfp.dsl.executor_main"]
        process = warm.Popen(
            [*command, "--component_module_path", str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env_vars or {}), "_KFP_RUNTIME": "true"},
        )
        with process:
            for line in process.stdout or ():
                print(line, end="")  # noqa: T201
        return int(process.returncode)


def _impatient(profile: Profile, registry: str) -> Profile:
    """Without retries, which wait."""
    values = profile.model_dump()
    values["images"]["registry"] = registry
    for stage in values["stages"].values():
        stage["retry"]["limit"] = 0
    return Profile.model_validate(values)


def _component(task: str) -> str:
    name, _, number = task.rpartition("-")
    return name if number.isdecimal() else task
