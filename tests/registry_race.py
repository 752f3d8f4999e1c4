"""Promotions at the same instant, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.registry_models import METRIC, make_candidate
from tspin.records.manifest import content_hash
from tspin.registry import Registry, promote

RACERS = 16
_SCRIPT = """
import sys
from pathlib import Path
from tspin.errors import GateRefusedError
from tspin.registry import champions as module, promote

append = module.Registry.append

def late(self, record):
    print("ready", flush=True)
    sys.stdin.readline()  # All have compared with the same champion.
    return append(self, record)

module.Registry.append = late
folder, registry, metric = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
given = dict(registry=registry, metric=metric, direction="max")
try:
    promote(folder / "model", metrics=folder / "metrics.json", **given)
except GateRefusedError:
    sys.exit(3)
"""


def race(registry: str, folder: Path, **environment: str) -> list[int]:
    """Start 16 promotions at once; whoever wins, the champion is his and can be fetched.

    Args:
        registry: An empty one.
        folder: Gets the candidates.
        environment: Variables of those that race, besides the usual ones.

    Returns:
        Their exit codes, sorted.
    """
    model, metrics = make_candidate(folder / "first", 99, 0.2)
    first = promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max")
    racers = []
    for number in range(RACERS):
        candidate = folder / str(number)
        make_candidate(candidate, number, 0.5 + number / 100)
        command = [sys.executable, "-c", _SCRIPT, str(candidate), registry, METRIC]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        surroundings = os.environ | environment
        racers.append(subprocess.Popen(command, text=True, env=surroundings, **pipes))
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate()
    codes = [racer.returncode for racer in racers]
    assert 0 in codes, codes
    records = Registry(registry).records()
    assert [record.number for record in records] == [1, 2]
    assert records[0] == first
    assert records[1].model == content_hash(folder / str(codes.index(0)) / "model")
    Registry(registry).fetch(records[1], folder / "served")
    assert content_hash(folder / "served") == records[1].model
    return sorted(codes)
