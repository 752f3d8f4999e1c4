"""The alerts as Prometheus itself reads them: promtool checks the rules and runs their tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rendered import K8S

FOLDER = K8S / "components/monitoring"
TESTS = Path(__file__).parent / "alerts"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program; Debian's package `prometheus` has it."""
    found = shutil.which("promtool")
    if found is None:
        message = "needs promtool (apt-get install prometheus)"
        if os.environ.get("TSPIN_REQUIRE_PROMTOOL"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(folder: Path) -> None:
    """The rules as a file of Prometheus, and their tests beside it."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    for path in TESTS.glob("*_test.yaml"):
        shutil.copy(path, folder)


def test_prometheus_takes_the_rules(promtool: str, tmp_path: Path) -> None:
    write(tmp_path)
    count = len(RULES["groups"][0]["rules"])
    assert f"{count} rules found" in run(promtool, "check", "rules", "rules.yaml", folder=tmp_path)


def test_alerts_fire_where_they_must_and_nowhere_else(promtool: str, tmp_path: Path) -> None:
    write(tmp_path)
    names = sorted(path.name for path in TESTS.glob("*_test.yaml"))
    assert run(promtool, "test", "rules", *names, folder=tmp_path).count("SUCCESS") == 2


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, silent = set(), set()
    for path in TESTS.glob("*_test.yaml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for asked in case["alert_rule_test"]:
                (fires if asked.get("exp_alerts") else silent).add(asked["alertname"])
    alerts = {rule["alert"] for rule in RULES["groups"][0]["rules"]}
    assert fires == silent == alerts
