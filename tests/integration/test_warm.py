"""Forked processes behave as new interpreters do, and the process of the tests stays as it is."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import surroundings, warm

pytestmark = pytest.mark.integration

SAYS = """
import atexit, os, sys
atexit.register(print, "the end")
print(sys.argv, sys.path[0], os.getcwd(), os.environ.get("ONLY_HERE"), __name__, sys.stdin.read())
print("err", file=sys.stderr)
"""


def both(*arguments: str, **given: Any) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of a warm process and of a new interpreter."""
    return [
        (done.returncode, done.stdout, done.stderr)
        for done in (
            start([sys.executable, *arguments], capture_output=True, text=True, **given)
            for start in (warm.run, subprocess.run)
        )
    ]


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "sys.exit('no')", "os.kill(os.getpid(), 9)"])
def test_code_runs_as_in_a_new_interpreter(tmp_path: Path, ending: str) -> None:
    environment = os.environ | {"ONLY_HERE": "1"}
    with (tmp_path / "in").open("w+") as given:
        given.write("given")
        given.flush()
        results = []
        for start in (warm.run, subprocess.run):
            given.seek(0)
            command = [sys.executable, "-c", SAYS + ending, "a", "b c"]
            streams = {"stdin": given, "capture_output": True, "text": True}
            done = start(command, cwd=tmp_path, env=environment, **streams)
            results.append((done.returncode, done.stdout, done.stderr))
    assert results[0] == results[1]
    assert results[0][0] in (0, 1, 3, -signal.SIGKILL)
    if "kill" not in ending:
        assert f"['-c', 'a', 'b c']  {tmp_path} 1 __main__ given" in results[0][1]
    assert "ONLY_HERE" not in os.environ


def test_a_module_runs_as_in_a_new_interpreter(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys, json\nprint(sys.argv, sys.path[0], __name__)")
    mine, other = both("-m", "mine", "x", cwd=tmp_path)
    assert mine == other
    assert mine[0] == 0
    missing, other = both("-m", "no_such_module", cwd=tmp_path)
    assert missing[0] == other[0] == 1


def test_a_process_is_waited_for_and_killed() -> None:
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = warm.Popen([sys.executable, "-c", code], text=True, **pipes)
    assert process.stdout.readline() == "up\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == process.poll() == -signal.SIGTERM
    process.communicate()


def test_random_numbers_are_its_own() -> None:
    code = "import random, uuid; print(random.random(), uuid.uuid4())"
    command = [sys.executable, "-c", code]
    printed = {warm.run(command, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(printed) == 2


@pytest.mark.skipif(
    "OMP_NUM_THREADS" not in os.environ, reason="torch decides how many threads it takes"
)
def test_torch_takes_the_threads_that_it_was_given() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    code = "import torch; print(torch.get_num_threads())"
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        for done in both("-c", code, env=environment):
            assert done[1] == f"{threads}\n"


def test_what_a_test_changes_is_found_and_put_back() -> None:
    before = surroundings.state()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    os.environ["LEFT_BEHIND"] = "1"
    assert surroundings.restored(before) == [
        "environment variable LEFT_BEHIND",
        "torch.get_num_threads()",
    ]
    assert torch.get_num_threads() == threads
    assert "LEFT_BEHIND" not in os.environ
    assert surroundings.restored(before) == []


def test_several_threads_may_wait_for_its_end() -> None:
    process = warm.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(process.wait, 60) for _ in range(8)]
        process.stdin.close()
        assert [future.result() for future in waiting] == [0] * 8


NESTED = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-u", "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
if sys.argv[2] == "leave":
    os.kill(os.getpid(), signal.SIGKILL)
child.send_signal(int(sys.argv[2]))
print(child.wait())
"""


@pytest.mark.parametrize(
    ("code", "sent", "ended"),
    [
        ("signal.signal(15, lambda *_: sys.exit(7))", signal.SIGTERM, 7),
        ("pass", signal.SIGTERM, -15),
        ("pass", signal.SIGKILL, -9),
    ],
)
def test_what_a_forked_process_starts_is_forked_and_gets_its_signals(
    code: str, sent: int, ended: int
) -> None:
    # The handler first: the number is printed once it is there.
    told = f"import os, signal, sys; {code}; print(os.getpid()); signal.pause()"
    done = both("-c", NESTED, told, str(int(sent)))
    assert [printed.split()[1:] for _, printed, _ in done] == [[str(ended)]] * 2


def test_it_goes_with_the_one_that_started_it() -> None:
    told = "import os, signal; print(os.getpid()); signal.pause()"
    process = warm.Popen(
        [sys.executable, "-c", NESTED, told, "leave"], stdout=subprocess.PIPE, text=True
    )
    number = int(process.stdout.readline())
    assert process.wait() == -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(number)
        assert select.select([ended], [], [], 60)[0]


@pytest.mark.parametrize(
    "arguments", [["--version"], ["a 'b' $c"], ["data", "validate", "no.jsonl"]]
)
def test_a_command_by_its_name_is_the_command(tmp_path: Path, arguments: list[str]) -> None:
    results = [
        subprocess.run(
            ["tspin", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        for folder in (warm.commands(), Path(sys.executable).parent)
    ]
    ours, theirs = ((done.returncode, done.stdout, done.stderr) for done in results)
    assert ours == theirs
    assert ours[0] == (0 if arguments == ["--version"] else 2)


@pytest.mark.skipif(warm.Popen is subprocess.Popen, reason="all processes are new interpreters")
def test_it_goes_with_one_that_was_killed_before_it_was_told_of_it(tmp_path: Path) -> None:
    warm.run([sys.executable, "-c", ""])  # From here on the server is there.
    order: dict[str, Any] = {"arguments": ["-c", "import signal; signal.pause()"]}
    order |= {"folder": str(tmp_path), "environment": {}, "session": True, "owned": True}
    ours, its = os.pipe()
    text = os.memfd_create("order")
    os.write(text, json.dumps(order).encode())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.connect(str(Path(warm.python()).with_name("socket")))
        socket.send_fds(killed, [b"start"], [its, its, its, text])
    os.close(its)
    os.close(text)
    assert select.select([ours], [], [], 300)[0]
    assert os.read(ours, 1) == b""  # The process is gone, and its streams with it.
    os.close(ours)


@pytest.mark.skipif(warm.Popen is subprocess.Popen, reason="all processes are new interpreters")
def test_a_server_that_has_just_begun_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONANOTHER", "1")  # Needs another server.
    done = subprocess.run([warm.python(), "-c", "print(1)"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
