"""How a run of the GPU benchmark goes through its parts, with processes that need no torch."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks.gpu.command import run
from benchmarks.gpu.document import section
from benchmarks.gpu.plan import PARTS, Part
from benchmarks.gpu.request import keep
from benchmarks.gpu.session import Session

SCRIPTS = {
    "good": "leave({'result': {'answer': 42}})",
    "silent": "print('the last words'); sys.exit(3)",
    "broken": "leave({'result': {'half': 1}, 'error': 'ValueError: no'}); sys.exit(1)",
    "elsewhere": "leave({'result': {}, 'reason': 'nothing for it is installed'})",
    # Its own child has its output open, and must not outlive it.
    "endless": "leave({'result': {'half': 1}}); child = os.fork(); "
    "child or open(sys.argv[1] + '.child', 'w').write(str(os.getpid())); signal.pause()",
    "large": "leave({'result': {}})",
}


def session(folder: Path, *, seconds: float = 1000.0) -> Session:
    def command(part: Part, out: Path) -> list[str]:
        leave = "def leave(what): open(sys.argv[1], 'w').write(json.dumps(what))"
        code = f"import json, os, signal, sys\n{leave}\n{SCRIPTS[part.name]}"
        return [sys.executable, "-S", "-c", code, str(out)]

    return Session(command, folder, folder / "all.json", seconds, gpus=1, about={"toy": True})


def part(name: str, seconds: int = 100, gpus: int = 1) -> Part:
    return Part(name, seconds, name, gpus)


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    ran = session(tmp_path)
    ran.run([part(name) for name in ("elsewhere", "silent", "broken", "good")])
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["toy"] is True
    parts = found["parts"]
    assert list(parts) == ["elsewhere", "silent", "broken", "good"]
    assert parts["elsewhere"]["status"] == "not run"
    assert parts["elsewhere"]["reason"] == "nothing for it is installed"
    assert (parts["silent"]["status"], parts["silent"]["log"]) == ("failed", ["the last words"])
    assert parts["silent"]["error"] == "ended with exit code 3"
    assert parts["broken"]["error"] == "ValueError: no"
    assert parts["broken"]["result"] == {"half": 1}
    assert (parts["good"]["status"], parts["good"]["result"]) == ("done", {"answer": 42})
    assert ran.failed == ["silent", "broken"]


def test_a_part_past_its_time_is_stopped_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, begun, wait = session(tmp_path), tmp_path / "endless.json.child", subprocess.Popen.wait

    def wait_from_its_beginning(
        process: subprocess.Popen[bytes], timeout: float | None = None
    ) -> int:
        while not begun.is_file() or not begun.read_text():
            assert process.poll() is None
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_from_its_beginning)
    ran.run([part("endless", seconds=1)])
    found = ran.parts["endless"]
    assert found["status"] == "failed"
    assert found["error"] == "stopped after 1 s, the time it had"
    assert found["result"] == {"half": 1}
    child = int(begun.read_text())
    with contextlib.suppress(ProcessLookupError):  # It is gone already.
        ended = os.pidfd_open(child)
        assert select.select([ended], [], [], 300)[0]


def test_what_the_time_does_not_reach_is_listed(tmp_path: Path) -> None:
    ran = session(tmp_path, seconds=60)
    ran.run([part("good"), part("large", seconds=600), part("elsewhere", gpus=2)])
    assert ran.parts["good"]["status"] == "done"
    assert ran.parts["large"]["status"] == "not reached"
    assert ran.parts["large"]["reason"].endswith("s were left of 60 s")
    assert ran.parts["elsewhere"] == {
        "budget_seconds": 100,
        "status": "not run",
        "reason": "needs --gpus 2 or more",
    }
    assert ran.failed == []


def test_nothing_runs_without_what_all_need(tmp_path: Path) -> None:
    ran = session(tmp_path)
    ran.run([part("silent"), part("good")])
    assert ran.parts["good"]["reason"] == "the part 'silent' failed"


def test_the_parts_fit_the_time(tmp_path: Path) -> None:
    # All but the last begin even where each takes all of its time.
    one_gpu = [part for part in PARTS if part.gpus == 1]
    before_last = sum(part.seconds for part in one_gpu[:-1])
    assert before_last + one_gpu[-1].seconds / 2 <= 12 * 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "torch sees no GPU here; --toy"),
        (["--gpus", "2"], "torch sees no GPU here"),
        (["--part", "speed"], "'speed' is none of step, kernels"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    app = typer.Typer()
    app.command()(run)
    asked = [*options, "--json", str(tmp_path / "found.json")]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, asked)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "found.json").exists()


def test_the_section_says_what_is_missing() -> None:
    prepared = {
        "environment": {
            "date": "2026-01-01",
            "gpus": [{"name": "H200", "memory_bytes": 2**37}],
            "driver": "580.1",
            "versions": {"torch": "2.13.0"},
            "command": "benchmarks/gpu.sh",
        },
        "model": {"shape": "0.5b", "parameters": 494_000_000, "dtype": "bfloat16"},
    }
    parts = {
        "prepare": {"status": "done", "result": prepared},
        "resume": {"status": "failed", "error": "RuntimeError: not the same bytes", "result": {}},
        "longest": {"status": "not reached", "reason": "3 s were left of 720 s"},
    }
    text = section({"parts": parts, "toy": False, "seconds": 700.0})
    assert "H200 (128.00 GiB), driver 580.1, 494.0M parameters" in text
    assert "**Killed and continued.** Failed: RuntimeError: not the same bytes" in text
    assert "**The longest pass.** Not reached: 3 s were left of 720 s" in text


def test_json_keeps_the_order(tmp_path: Path) -> None:
    keep(tmp_path / "one.json", {"b": 1, "a": 2})
    assert list(json.loads((tmp_path / "one.json").read_text())) == ["b", "a"]
