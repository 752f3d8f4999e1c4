"""Promotion: one winner of a race, a gate with intervals, the champion whole after any kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.registry_models import METRIC, make_candidate, make_metrics, make_model
from tests.registry_race import RACERS, race
from tspin.cli.main import app
from tspin.errors import GateRefusedError, InputError, TspinError
from tspin.records.manifest import content_hash
from tspin.registry import Record, Registry, promote, rollback
from tspin.registry.models import FileList

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
    Registry(str(registry)).fetch(record, tmp_path / "out")
    assert content_hash(tmp_path / "out") == content_hash(candidate[0])
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_a_champion_is_fetched_by_its_hash(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    first = _promote(registry, make_candidate(tmp_path / "a", 1, 0.5))
    _promote(registry, make_candidate(tmp_path / "b", 2, 0.6))
    asked = ["registry", "fetch", "--registry", str(registry), "--out", str(tmp_path / "served")]
    CliRunner().invoke(app, [*asked, "--hash", first.model[:12]], catch_exceptions=False)
    assert content_hash(tmp_path / "served") == first.model
    with pytest.raises(InputError, match="there is no champion of model 0000"):
        CliRunner().invoke(app, [*asked, "--hash", "0000"], catch_exceptions=False)


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
    [
        ("engine", "vllm"),
        ("dtype", "bfloat16"),
        ("attn_implementation", "eager"),
        ("quantize", "nf4"),  # Named only where there is one: the champion's says nothing of it.
    ],
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
    [path] = (registry / "champion").glob("*.json")
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


def _evil(folder: Path, name: str) -> None:
    """Other bytes in a file of a stored model, and a list of files that says so."""
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"x")
    listed = FileList.of(folder)
    files = {k: v for k, v in json.loads(listed.content).items() if k != "files.json"}
    (folder / "files.json").write_text(json.dumps(files, indent=2))


@pytest.mark.parametrize(
    ("name", "listed", "message"),
    [
        ("model.safetensors", False, "model.safetensors: is not what was put in"),
        ("model.safetensors", True, "files.json: is not what was put in"),
        ("tokenizer.json", True, "files.json: is not what was put in"),
    ],
)
def test_a_model_that_was_changed_in_the_registry_is_not_fetched(
    tmp_path: Path, name: str, listed: bool, message: str
) -> None:
    registry = tmp_path / "registry"
    record = _promote(registry, make_candidate(tmp_path / "a", 1, 0.5))
    stored = registry / "models" / record.model
    kept = (stored / "files.json").read_bytes()
    _evil(stored, name)
    if not listed:
        (stored / "files.json").write_bytes(kept)
    with pytest.raises(TspinError, match=message):
        Registry(str(registry)).fetch(record, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(TspinError, match=message):
        Registry(str(registry)).verify()


def test_a_record_of_format_1_vouches_for_the_weights_alone(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    record = _promote(registry, make_candidate(tmp_path / "a", 1, 0.5))
    older = record.model_copy(update={"files_sha256": None})
    _evil(registry / "models" / record.model, "tokenizer.json")
    Registry(str(registry)).fetch(older, tmp_path / "out")
    _evil(registry / "models" / record.model, "model.safetensors")
    with pytest.raises(TspinError, match="lists the files of another model"):
        Registry(str(registry)).fetch(older, tmp_path / "other")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_what_stood_in_a_models_place_before_is_not_promoted(tmp_path: Path, name: str) -> None:
    registry = tmp_path / "registry"
    candidate = make_candidate(tmp_path / "a", 1, 0.5)
    seeded = registry / "models" / content_hash(candidate[0])
    shutil.copytree(candidate[0], seeded)
    _evil(seeded, name)
    with pytest.raises(InputError, match="no promotion of this candidate put it there"):
        _promote(registry, candidate)
    assert Registry(str(registry)).champion() is None


def test_what_a_killed_promotion_left_is_completed(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    candidate = make_candidate(tmp_path / "a", 1, 0.5)
    begun = registry / "models" / content_hash(candidate[0])
    begun.mkdir(parents=True)
    shutil.copy(candidate[0] / "model.safetensors", begun)
    record = _promote(registry, candidate)
    assert Registry(str(registry)).verify() != []
    assert json.loads((begun / "files.json").read_bytes()).keys() == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    Registry(str(registry)).fetch(record, tmp_path / "out")


def _history(folder: Path, count: int = 3) -> list[Path]:
    for number in range(count):
        candidate = make_candidate(folder / str(number), number, 0.1 + number / 5)
        _promote(folder / "registry", candidate)
    return sorted((folder / "registry/champion").glob("0*.json"))


def _rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda paths: _rewrite(paths[1], by="nobody"), "was written after another champion/0+2"),
        (lambda paths: paths[1].unlink(), "0+2.json: is missing, though champion/0+3.json"),
        (lambda paths: paths[0].unlink(), "0+1.json: is missing"),
        (lambda paths: _rewrite(paths[2], previous_sha256=None), "0+3.json: does not name the"),
        (lambda paths: _rewrite(paths[2], version=1, previous_sha256=None), "does not name the"),
        (lambda paths: _rewrite(paths[1], number=7), "0+2.json: says that it is number 7"),
        (lambda paths: _rewrite(paths[2], version=3), r"has format 3; this .+ reads up to 2"),
        (lambda paths: paths[2].write_text("[]"), "0+3.json: not a record"),
        (lambda paths: paths[0].with_name("0.json").touch(), "champion/0.json: not a record"),
    ],
)
def test_a_history_that_was_changed_is_no_history(
    tmp_path: Path, harm: Callable[[list[Path]], None], message: str
) -> None:
    paths = _history(tmp_path)
    harm(paths)
    registry = str(tmp_path / "registry")
    for reader in (
        Registry(registry).champion,
        Registry(registry).verify,
        Registry(registry).probe,
    ):
        with pytest.raises(TspinError, match=message):
            reader()
    with pytest.raises(TspinError, match=message):
        _promote(tmp_path / "registry", make_candidate(tmp_path / "next", 9, 0.9))


def test_what_followed_the_head_of_an_earlier_time_is_told_from_another_history(
    tmp_path: Path,
) -> None:
    paths = _history(tmp_path)
    options = ["registry", "verify", "--registry", str(tmp_path / "registry")]
    verified = CliRunner().invoke(app, options, catch_exceptions=False)
    head = verified.stdout.split()[-1]
    assert head == hashlib.sha256(paths[-1].read_bytes()).hexdigest()
    _promote(tmp_path / "registry", make_candidate(tmp_path / "next", 9, 0.9))
    assert Registry(str(tmp_path / "registry")).verify(known=head)[2] == head
    newest = paths[-1].with_name("00000004.json")
    newest.unlink()  # A cut at the end breaks no chain.
    assert len(Registry(str(tmp_path / "registry")).verify(known=head[:12])) == 3
    paths[-1].unlink()
    with pytest.raises(InputError, match=f"no record has the sha256 {head}"):
        Registry(str(tmp_path / "registry")).verify(known=head)


def test_records_without_a_chain_are_read_and_continued(tmp_path: Path) -> None:
    paths = _history(tmp_path, count=2)
    for path in paths:
        record = json.loads(path.read_bytes())
        for name in ("version", "files_sha256", "previous_sha256"):
            del record[name]
        path.write_text(json.dumps(record))
    record = _promote(tmp_path / "registry", make_candidate(tmp_path / "next", 9, 0.9))
    assert record.previous_sha256 == hashlib.sha256(paths[1].read_bytes()).hexdigest()
    assert [r.version for r in Registry(str(tmp_path / "registry")).records()] == [1, 1, 2]
    Registry(str(tmp_path / "registry")).verify()
    _rewrite(paths[1], by="nobody")
    with pytest.raises(TspinError, match="another champion/00000002"):
        Registry(str(tmp_path / "registry")).records()


def test_a_probe_leaves_one_empty_object_and_no_record(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.probe()
    registry.probe()
    (left,) = (path for path in (tmp_path / "registry").rglob("*") if path.is_file())
    assert left.stat().st_size == 0
    assert registry.records() == []
    assert _promote(tmp_path / "registry", make_candidate(tmp_path / "a", 1, 0.5)).number == 1


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
