"""A registry's champions as metrics, those that came another way than through CI among them."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from datetime import datetime
from pathlib import Path

from typer.main import get_group

from tests.registry_models import METRIC, make_candidate
from tspin.cli.registry import app
from tspin.monitoring.families import CHAMPION, CHAMPION_TIME, RECORDS, UP
from tspin.monitoring.registry import RegistryCollector
from tspin.registry import promote, rollback
from tspin_components.artifacts import run_address

[_OPTION] = [o for o in get_group(app).commands["metrics"].params if o.name == "ci"]
CI = re.compile(_OPTION.default)
"""As the command has it."""


def add(folder: Path, number: int, run: str | None) -> None:
    model, metrics = make_candidate(folder / f"c{number}", number, 0.1 * number)
    registry = str(folder / "registry")
    promote(
        model, metrics=metrics, registry=registry, metric=METRIC, direction="max", by="x", run=run
    )


def told(folder: Path) -> dict[tuple[str, ...], float]:
    metrics = RegistryCollector(str(folder / "registry"), CI).collect()
    return {(s.name, *s.labels.values()): s.value for m in metrics for s in m.samples}


def counts(folder: Path) -> tuple[float, float, float]:
    values = told(folder)
    kinds = (("promote", "true"), ("promote", "false"), ("rollback", "false"))
    first, second, third = (values[RECORDS.name, *kind] for kind in kinds)
    return first, second, third


def test_a_promotion_by_hand_is_counted_apart(tmp_path: Path) -> None:
    assert counts(tmp_path) == (0, 0, 0)
    assert (CHAMPION.name,) not in told(tmp_path)
    add(tmp_path, 1, "https://ci.example/1")
    add(tmp_path, 2, run_address("tspin", "4f2a", "tspin-run-x7k2p"))
    assert counts(tmp_path) == (2, 0, 0)
    add(tmp_path, 3, "at my desk, see https://ci.example/1")
    add(tmp_path, 4, None)
    assert counts(tmp_path) == (2, 2, 0)
    record = rollback(str(tmp_path / "registry"), to=1)
    assert counts(tmp_path) == (2, 2, 1)
    values = told(tmp_path)
    assert values[(CHAMPION.name,)] == 5
    assert values[(CHAMPION_TIME.name,)] == datetime.fromisoformat(record.at).timestamp()
    assert values[(UP.name,)] == 1


def test_a_registry_that_cannot_be_read_says_that_alone(tmp_path: Path) -> None:
    add(tmp_path, 1, None)
    (tmp_path / "registry/champion/00000001.json").write_text("{")
    assert told(tmp_path) == {(UP.name,): 0}


def test_the_command_answers_until_it_is_ended(tmp_path: Path) -> None:
    add(tmp_path, 1, "job 7")
    command = [sys.executable, "-m", "tspin", "registry", "metrics", "--port", "0", "--ci", "job"]
    command += ["--registry", str(tmp_path / "registry")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rsplit(" ", 1)[1])
        address = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert f'{RECORDS.name}{{ci="true",kind="promote"}} 1.0' in answer.read().decode()
        process.terminate()
    wrong = subprocess.run([*command[:-3], "(", *command[-2:]], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--ci is '(', not a regular expression" in wrong.stderr
