"""The steps of a retraining, top to bottom."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from tspin.config import RunConfig, load_config
from tspin.data import validate_records
from tspin.errors import InputError, TspinError
from tspin.files import sha256_file
from tspin.mirrors.following import mirrored
from tspin.plugins import COMMANDS, load_plugin
from tspin.registry import PromotionGate, Registry, promote
from tspin.retrain.outcome import Outcome, write_outcome
from tspin.retrain.request import Retraining
from tspin.retrain.tools import output_of, show
from tspin.runs.gate import best_metrics
from tspin.store import fetch, is_remote, open_store

__all__ = ["retrain"]

log = logging.getLogger(__name__)

_WATCHED = ("*.dvc", "params.yaml", "dvc.yaml", "configs/*")


def retrain(asked: Retraining) -> Outcome | None:
    """Check what was pushed, run it, report, and promote the best model if the gate lets it.

    The data must be in DVC's remote before anything is run, and valid. In mode local what the run
    made goes to the remote, too. Killed anywhere and started again, it continues.

    Returns:
        What came of it; None if nothing that a run is made of has changed.

    Raises:
        InputError: the data are not in the remote, or broken; the configuration is; or the
            pipeline for Kubeflow cannot be compiled here.
        GateRefusedError: the model is not better than the champion, which stays.
        TspinError: the run, or a command on the way, failed.
    """
    if not _has_changed(asked):
        log.info("nothing that a run is made of has changed since %s", asked.since)
        return None
    outcome = Outcome(asked)
    try:
        with mirrored(asked.registry, asked.mirrors, asked.mirror_name):
            config = load_config(asked.folder / "params.yaml")
            if asked.mode == "kubeflow":
                _check_pipeline(asked)
            _pull_data(asked.folder)
            _validate(asked.folder, config)
            _run(asked, config, outcome)
    except TspinError as error:
        outcome.error = error
        raise
    finally:
        write_outcome(outcome)
    return outcome


def _has_changed(asked: Retraining) -> bool:
    if asked.since is None or set(asked.since) == {"0"}:
        return True
    known = show(asked.folder, "git", "cat-file", "-e", f"{asked.since}^{{commit}}") == 0
    if not known:  # A shallow clone, or a branch that was rewritten.
        return True
    # -z: git would put other names than plain ones in quotation marks.
    options = ("--name-only", "--relative", "-z", asked.since, "HEAD")
    names = output_of(asked.folder, "git", "diff", *options).split("\0")
    return any(fnmatch(name, pattern) for name in names for pattern in _WATCHED)


def _pull_data(folder: Path) -> None:
    listed = output_of(folder, "git", "ls-files", "-z", "--", "*.dvc").split("\0")
    tracked = [name for name in listed if name]
    if not tracked:
        return
    try:
        # The remote is asked, not this machine's cache: the data may come from here.
        status = json.loads(output_of(folder, "dvc", "status", "--cloud", "--json", *tracked))
        absent = [path for path, state in status.items() if state in ("new", "missing")]
        if absent:
            raise TspinError(f"not in the remote: {', '.join(sorted(absent))}")
        output_of(folder, "dvc", "pull", "--force", *tracked)
    except TspinError as error:
        raise InputError(
            f"the data named by {', '.join(tracked)} cannot be pulled from DVC's remote; was "
            f"`dvc push` forgotten?\n{error}"
        ) from None


def _validate(folder: Path, config: RunConfig) -> None:
    for name in ("annotated", "heldout"):
        location = getattr(config.data, name)
        if location is None:
            continue
        path = fetch(location) if is_remote(location) else folder / location
        if not path.is_file():
            raise InputError(f"data.{name} is {location!r}: no such file, pushed or pulled")
        report = validate_records(path)
        if not report.ok:
            problems = "\n".join(str(problem) for problem in report.problems[:5])
            raise InputError(f"data.{name} has {report.total} problems:\n{problems}")


def _run(asked: Retraining, config: RunConfig, outcome: Outcome) -> None:
    registry = Registry(asked.registry)
    outcome.champion = registry.champion()
    if asked.mode == "kubeflow":  # The run probes the registry itself, with its own rights.
        outcome.submitted = _run_on_kubeflow(asked, config)
        if outcome.submitted is not None:
            return
    else:
        registry.probe()
        _run_here(asked)
        outcome.run_dir = asked.folder / config.run_dir
        _promote(asked, config, outcome)
    outcome.record = registry.champion()
    if outcome.record is None:
        raise TspinError(f"{asked.registry}: holds no champion after the run")


def _run_here(asked: Retraining) -> None:
    if show(asked.folder, "dvc", "repro", "--pull", "--allow-missing") != 0:
        raise TspinError("dvc repro failed; what it printed stands above")
    output_of(asked.folder, "dvc", "push", "--run-cache")


def _check_pipeline(asked: Retraining) -> None:
    """Before data are pulled and copied: are the plugin and its packages there, is the profile?"""
    load_plugin(COMMANDS, "pipeline")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "pipeline.yaml")
        try:
            output_of(asked.folder, *_pipeline("compile", asked), "--out", out)
        except TspinError as error:
            raise InputError(f"no pipeline can be made of params.yaml here\n{error}") from None


def _pipeline(command: str, asked: Retraining) -> list[str]:
    options = ["--config", "params.yaml", "--profile", str(asked.profile)]
    options += ["--registry", asked.registry]
    return [sys.executable, "-m", "tspin", "pipeline", command, *options]


def _run_on_kubeflow(asked: Retraining, config: RunConfig) -> str | None:
    """Submit and wait; or leave, and the run's id tells where to look later."""
    command = [*_pipeline("submit", asked), *_data_for_pods(asked, config)]
    if not asked.wait:
        *_, last = output_of(asked.folder, *command).splitlines()
        return last.removeprefix("run ")
    command.append("--wait")
    if show(asked.folder, *command) != 0:
        raise TspinError("the Kubeflow run failed, or its gate refused; its nodes say why")
    return None


def _data_for_pods(asked: Retraining, config: RunConfig) -> list[str]:
    """Options that name the data where pods find them: beside the models, by content."""
    options = []
    for name in ("annotated", "heldout"):
        location = getattr(config.data, name)
        if location is None or is_remote(location):
            continue
        path = asked.folder / location
        key = f"data/{sha256_file(path)}.jsonl"
        open_store(asked.registry).upload(path, key)
        uri = f"{asked.registry.rstrip('/')}/{key}"
        options += ["--set", f"data.{name}={json.dumps(uri)}"]
    return options


def _promote(asked: Retraining, config: RunConfig, outcome: Outcome) -> None:
    run = asked.folder / config.run_dir
    metrics = best_metrics(run)
    gate = config.gate
    record = promote(
        metrics.parent / "model",
        metrics=metrics,
        registry=asked.registry,
        metric=gate.metric,
        direction=gate.direction,
        min_gain=asked.min_gain,
        certain=asked.certain,
        by=asked.by,
        run=asked.run,
        git_commit=output_of(asked.folder, "git", "rev-parse", "HEAD").strip(),
    )
    if outcome.champion is not None and outcome.champion.model != record.model:
        outcome.comparison = PromotionGate(
            gate.metric,
            gate.direction,
            asked.min_gain,
            asked.certain,
            record.metrics,
            outcome.champion.metrics,
        )
