"""What a run takes besides generation, training and evaluation: `make bench BENCHMARK=overhead`.

    python -m benchmarks.overhead --json build/bench/overhead.json

The demo's three iterations by `tspin run`, by `dvc repro` and as a Kubeflow pipeline by kfp.local,
each in a folder of its own. Every step writes beside its output what its time went to
(`tspin.records.seconds`); what is left of the wall time is the rest: interpreters that start,
DVC's and kfp's own work, hashes, the report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import yaml

from benchmarks.markdown import replace_section, table
from tspin.demo.demo import write_demo
from tspin.records.seconds import SECONDS, WORK, StepSeconds

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"
RUN = 600
"""Seconds of the run that the overhead is to be a small part of."""
REST = "the rest"

_PIPELINE = """
import sys
from pathlib import Path
from kfp import local
from tspin.config import load_config
from tspin_pipelines.graph.graphs import GRAPHS
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import load_profile
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
GRAPHS["run"](Plan(load_config(Path(sys.argv[1]), []), load_profile("cpu")))()
"""


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures here.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Write the table into this file's section `overhead`.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value over the demo.")
    ] = None,
) -> None:
    """Run the demo in each way, and say what its wall time went to."""
    found: dict[str, Counter[str]] = {}
    for name, way in WAYS.items():
        with tempfile.TemporaryDirectory() as scratch:
            found[name] = spent(way, Path(scratch), changes or [])
            print(f"{name}: {dict(found[name])}", flush=True)
    text = shown(found)
    print(text)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(found, indent=1))
    if document is not None:
        replace_section(document, "overhead", text)


def spent(way: Callable[[Path, list[str]], None], folder: Path, changes: list[str]) -> Counter[str]:
    """Seconds by phase of all steps, and the rest of the wall time.

    Args:
        way: Of running the demo.
        folder: An empty one.
        changes: Over the demo's configuration.
    """
    began = time.perf_counter()
    way(folder, changes)
    wall = time.perf_counter() - began
    # A history has copies of what the steps before it wrote.
    steps = {
        step.work: step
        for path in folder.rglob(f".*{SECONDS}")
        for step in [StepSeconds.model_validate_json(path.read_bytes())]
    }
    phases: Counter[str] = Counter()
    for step in steps.values():
        phases.update(step.phases)
    phases[REST] = wall - phases.total()  # type: ignore[assignment]
    return phases


def shown(found: dict[str, Counter[str]]) -> str:
    """One row a way: the work, what it took besides, and which part of ten minutes that is."""
    rows = []
    for name, phases in found.items():
        work = sum(phases[phase] for phase in WORK.values())
        beside = {phase: seconds for phase, seconds in phases.items() if phase not in WORK.values()}
        longest = sorted(beside.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in longest if seconds >= 0.1)
        total = sum(beside.values())
        rows.append([name, f"{work:.0f}", f"{total:.1f}", f"{total / RUN:.1%}", parts])
    header = ["way", "work, s", "besides, s", "of ten minutes", "of it"]
    return table(header, rows)


def _config(folder: Path, changes: list[str]) -> Path:
    from tspin.config import load_config, resolved

    write_demo(folder / "build/demo")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(resolved(load_config(DEMO, changes))))
    return path


def _tspin_run(folder: Path, changes: list[str]) -> None:
    _do(folder, "tspin", "run", "--config", str(_config(folder, changes)))


def _dvc_repro(folder: Path, changes: list[str]) -> None:
    _config(folder, changes).rename(folder / "params.yaml")
    for command in ("git init -q", "dvc init -q", "tspin dvc sync", "dvc repro"):
        _do(folder, *command.split())


def _kfp_local(folder: Path, changes: list[str]) -> None:
    demo = folder / "build/demo"
    inside = {
        "model.path": demo / "base",
        "data.annotated": demo / "annotated.jsonl",
        "data.heldout": demo / "heldout.jsonl",
        "evaluate.harness.task_folder": demo / "tasks",
        "system.checkpoints": folder / "checkpoints",
    }
    config = _config(folder, [*(f"{name}={path}" for name, path in inside.items()), *changes])
    _do(folder, sys.executable, "-c", _PIPELINE, str(config), str(folder / "root"))


def _do(folder: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}: {(done.stdout + done.stderr)[-2000:]}")


WAYS: dict[str, Callable[[Path, list[str]], None]] = {
    "`tspin run`": _tspin_run,
    "`dvc repro`": _dvc_repro,
    "kfp.local": _kfp_local,
}

if __name__ == "__main__":
    typer.run(main)
