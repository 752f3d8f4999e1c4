"""Promotion: one winner of a race, a gate with intervals, the champion whole after any kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.registry_models import METRIC, make_candidate, make_metrics, make_model
from tests.registry_race import RACERS, race
from tspin.cli.main import app
from tspin.errors import GateRefusedError, InputError
from tspin.records.manifest import content_hash
from tspin.registry import Record, Registry, promote, rollback

pytestmark = pytest.mark.integration


def _promote(registry: Path, candidate: tuple[Path, Path], **given: Any) -> Record:
    model, metrics = candidate
    return promote(
        model,
        metrics=metrics,
        registry=str(registry),
        metric=METRIC,
        direction="max",
        by="someone",
        **given,
    )


def test_the_first_model_is_the_champion_and_can_be_fetched(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    candidate = make_candidate(tmp_path / "a", 1, 0.5)
    record = _promote(registry, candidate, run="run-7")
    assert (record.number, record.previous, record.by, record.run) == (1, None, "someone", "run-7")
    assert Registry(str(registry)).champion() == record
    Registry(str(registry)).fetch(record.model, tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(candidate[0])
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.mark.parametrize("temperature", [None, 0.28125])
def test_who_fetches_a_champion_is_told_its_fitted_temperature(
    tmp_path: Path, temperature: float | None
) -> None:
    model = make_model(tmp_path / "model", 1)
    metrics = make_metrics(tmp_path / "metrics.json", model, 0.5, temperature=temperature)
    _promote(tmp_path / "registry", (model, metrics))
    options = ["--registry", str(tmp_path / "registry"), "--out", str(tmp_path / "served")]
    fetched = CliRunner().invoke(app, ["registry", "fetch", *options], catch_exceptions=False)
    assert (tmp_path / "served/model.safetensors").is_file()
    told = """--override-generation-config '{"temperature": 0.2812}'"""
    assert (told in fetched.stdout) == (temperature is not None)


@pytest.mark.parametrize(
    ("value", "given", "passes"),
    [
        (0.60, {}, True),
        (0.52, {}, False),  # Better, but within the interval.
        (0.52, {"certain": False}, True),
        (0.50, {"certain": False}, False),
        (0.60, {"min_gain": 0.1, "certain": False}, False),
        (0.48, {"min_gain": -0.1}, True),
    ],
)
def test_the_gate(tmp_path: Path, value: float, given: dict[str, Any], passes: bool) -> None:
    registry = tmp_path / "registry"
    first = _promote(registry, make_candidate(tmp_path / "a", 1, 0.5))
    second = make_candidate(tmp_path / "b", 2, value)
    if passes:
        record = _promote(registry, second, **given)
        assert (record.number, record.previous) == (2, 1)
        return
    with pytest.raises(GateRefusedError, match="champion") as refused:
        _promote(registry, second, **given)
    assert f"{value:.4g} [" in str(refused.value)
    assert Registry(str(registry)).records() == [first]


def test_sixteen_race_and_one_wins(tmp_path: Path) -> None:
    refused = [3] * (RACERS - 1)
    assert race(str(tmp_path / "registry"), tmp_path) == [0, *refused]


def test_killed_before_the_record_the_old_champion_stands(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    first = _promote(registry, make_candidate(tmp_path / "a", 1, 0.2))
    second = make_candidate(tmp_path / "b", 2, 0.9)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tspin.registry import champions as module, promote\n"
        "module.Registry.append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"promote(Path({str(second[0])!r}), metrics=Path({str(second[1])!r}), "
        f"registry={str(registry)!r}, metric={METRIC!r}, direction='max')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Registry(str(registry)).champion() == first
    assert _promote(registry, second).number == 2


def test_promoting_the_champion_again_changes_nothing(tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path / "a", 1, 0.5)
    first = _promote(tmp_path / "registry", candidate)
    assert _promote(tmp_path / "registry", candidate) == first
    assert len(Registry(str(tmp_path / "registry")).records()) == 1


def test_rollback_goes_to_the_champion_before(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    first = _promote(registry, make_candidate(tmp_path / "a", 1, 0.2))
    with pytest.raises(InputError, match="earlier champion"):
        rollback(str(registry))
    _promote(registry, make_candidate(tmp_path / "b", 2, 0.9))
    record = rollback(str(registry), by="someone")
    assert (record.number, record.kind, record.model) == (3, "rollback", first.model)
    assert Registry(str(registry)).champion() == record


def test_other_evaluations_cannot_be_compared(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    _promote(registry, make_candidate(tmp_path / "a", 1, 0.2))
    model, metrics = make_candidate(tmp_path / "b", 2, 0.9)
    make_metrics(metrics, model, 0.9, heldout="other")
    with pytest.raises(InputError, match="held-out"):
        _promote(registry, (model, metrics))


@pytest.mark.parametrize(
    ("name", "other"),
    [("engine", "vllm"), ("dtype", "bfloat16"), ("attn_implementation", "eager")],
)
def test_evaluations_that_computed_otherwise_cannot_be_compared(
    tmp_path: Path, name: str, other: str
) -> None:
    registry = tmp_path / "registry"
    numerics = {"engine": "transformers", "dtype": "float32", "attn_implementation": None}
    for folder, seed, changed in (("a", 1, {}), ("b", 2, {name: other}), ("c", 3, {})):
        model, value = make_model(tmp_path / folder, seed), seed / 4
        metrics = make_metrics(tmp_path / f"{folder}.json", model, value, **numerics | changed)
        if changed:
            with pytest.raises(InputError, match=f"measured with {name} {other}, the champion"):
                _promote(registry, (model, metrics))
        else:
            assert _promote(registry, (model, metrics)).numerics == numerics


def test_a_champion_of_an_earlier_release_can_be_beaten(tmp_path: Path) -> None:
    """Its record does not say how the metrics were computed; the rest must agree as ever."""
    registry = tmp_path / "registry"
    model = make_model(tmp_path / "a", 1)
    first = _promote(registry, (model, make_metrics(tmp_path / "a.json", model, 0.2, top_p=1.0)))
    [path] = (registry / "champion").iterdir()
    record = json.loads(path.read_bytes())
    assert record.pop("numerics") == {}
    path.write_text(json.dumps(record))
    assert Registry(str(registry)).champion() == first
    newer = make_model(tmp_path / "b", 2)
    known = {"engine": "transformers", "dtype": "bfloat16", "attn_implementation": None}
    metrics = make_metrics(tmp_path / "b.json", newer, 0.9, top_p=0.5, **known)
    with pytest.raises(InputError, match="held-out"):
        _promote(registry, (newer, metrics))
    make_metrics(metrics, newer, 0.9, top_p=1.0, **known)
    assert _promote(registry, (newer, metrics)).number == 2


def test_metrics_of_another_model_are_refused(tmp_path: Path) -> None:
    model, _ = make_candidate(tmp_path / "a", 1, 0.2)
    _, metrics = make_candidate(tmp_path / "b", 2, 0.9)
    with pytest.raises(InputError, match="another model"):
        _promote(tmp_path / "registry", (model, metrics))
    assert not (tmp_path / "registry").exists()


def test_a_model_that_was_changed_in_the_registry_is_not_fetched(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    record = _promote(registry, make_candidate(tmp_path / "a", 1, 0.5))
    stored = registry / "models" / record.model / "model.safetensors"
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match="not what was put in"):
        Registry(str(registry)).fetch(record.model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_with_exit_code_3_and_the_table(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    commands = []
    for name, seed, value in (("a", 1, 0.5), ("b", 2, 0.4)):
        model, metrics = make_candidate(tmp_path / name, seed, value)
        options = ["--candidate", model, "--metrics", metrics, "--registry", registry]
        options += ["--metric", METRIC, "--direction", "max"]
        command = [sys.executable, "-m", "tspin", "promote", *map(str, options)]
        commands.append(
            subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        )
    assert [done.returncode for done in commands] == [0, 3]
    assert "0.4 [0.38, 0.42]" in commands[1].stderr
    listed = subprocess.run(
        [sys.executable, "-m", "tspin", "registry", "list", "--json", "--registry", str(registry)],
        capture_output=True,
        text=True,
    )
    assert [json.loads(line)["number"] for line in listed.stdout.splitlines()] == [1]
