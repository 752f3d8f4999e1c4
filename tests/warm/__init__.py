"""Python processes that start with torch and transformers already imported.

A new interpreter spends seconds of a core on the imports of a training before it does anything,
and the tests start a hundred of them. Here one process a test worker imports those libraries once;
each further process is forked from it, and then gets arguments, folder, environment, standard
streams and `sys.path` of its own and runs its module or its code as the main program, to the
interpreter's ordinary end. Its `sys.executable` is a program that forks again (`client.py`). Only
libraries are imported beforehand: the project's own modules are imported by each process.

What a test says about the start of a process, about its memory or about what is imported needs
`subprocess`. With TSPIN_TEST_PROCESSES=new all processes are new interpreters.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

__all__ = ["Popen", "commands", "python", "run", "spawn"]

READ_AT_IMPORT = ("HF_", "HUGGING", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_")
READ_AT_IMPORT += ("PYTHON", "TOKENIZERS_", "TORCH", "TRANSFORMERS_")
"""Variables that Python or the libraries look at but once: another value needs another server."""

_PYTHON = sys.executable

GIVEN_LATER = ("OMP_NUM_THREADS", "PYTHONPATH")
"""What each process takes from its own environment all the same: see `server.py`."""


class Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`, for a command that is this Python with `-m MODULE` or `-c CODE`."""

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        *others: Any,
    ) -> None:
        program, *arguments = map(os.fspath, args)
        streams = others[3], others[6], others[8]
        unknown = [preexec_fn, *pass_fds, executable]
        if (
            program not in (_PYTHON, sys.executable)
            or arguments[0] not in ("-m", "-c")
            or any(unknown)
        ):
            raise ValueError(f"no command for a warm process: {args}")
        order = {
            "arguments": arguments,
            "folder": str(Path(cwd or ".").absolute()),
            "environment": dict(os.environ if env is None else env),
            "session": bool(others[-2]),
        }
        given = [own if own >= 0 else inherited for inherited, own in enumerate(streams)]
        self._keeper = _server(order["environment"]).start(order, given)
        self._ending = threading.Lock()
        self.pid = int(self._keeper.recv(64))
        self._child_created = True
        self._close_pipe_fds(*others[3:9])

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(timeout=0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        # Several threads may wait, as for any process: one of them reads how it ended. The socket
        # stays open until all of them are gone.
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            with self._ending:
                if self.returncode is None:
                    self.returncode = int(self._keeper.recv(64))
        return self.returncode

    def __del__(self, *given: Any) -> None:
        super().__del__(*given)
        if hasattr(self, "_keeper"):
            self._keeper.close()


def run(
    command: list[Any], *, capture_output: bool = False, timeout: float | None = None, **given: Any
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`."""
    if capture_output:
        given |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **given) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def python() -> str:
    """What to put in the place of `sys.executable`, for code that starts processes itself."""
    return (
        str(_server(dict(os.environ)).python) if Popen is not subprocess.Popen else sys.executable
    )


def commands() -> Path:
    """The folder for `PATH` in which `tspin` is such a process, for those who start it by name."""
    return Path(python()).parent


if os.environ.get("TSPIN_TEST_PROCESSES") == "new":
    Popen, run = subprocess.Popen, subprocess.run  # type: ignore[misc,assignment]


def spawn(function: Callable[..., None], *arguments: str, processes: int) -> None:
    """Call `function(rank, *arguments)` in several processes, as `torch.multiprocessing.spawn`.

    Raises:
        AssertionError: one of them failed, with what it printed; the others are killed.
    """
    code = (
        f"import json, sys; from {function.__module__} import {function.__name__} as work; "
        "work(*json.loads(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ranks = [
        Popen(
            [_PYTHON, "-c", code, json.dumps([rank, *arguments])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    failed = []
    with ThreadPoolExecutor(processes) as pool:
        ends = {pool.submit(process.communicate): process for process in ranks}
        for end in as_completed(ends):
            if ends[end].returncode != 0 and not failed:
                failed.append(end.result()[0])
                for process in ranks:
                    process.kill()
    assert not failed, failed[0]


class _Server:
    """This side of the process that the others are forked from."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        address, client = Path(self._folder.name, "socket"), Path(__file__).with_name("client.py")
        self.python = self._program("python", _PYTHON, "-IS", client, address, _PYTHON)
        code = "import sys; sys.argv[0] = 'tspin'; from tspin.cli import main; sys.exit(main())"
        self._program("tspin", self.python, "-c", code)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Bound here: whoever starts `python` at once finds it.
        listener.bind(str(address))
        listener.listen(64)
        passed = listener.fileno()
        with theirs, listener:
            subprocess.Popen(
                [_PYTHON, Path(__file__).with_name("server.py"), str(passed), self.python],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                pass_fds=[passed],
            )

    def _program(self, name: str, *command: str | Path) -> Path:
        """A file that stands for a command, to which it adds its own arguments."""
        program = Path(self._folder.name, name)
        program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
        program.chmod(0o700)
        return program

    def start(self, order: dict[str, Any], streams: list[int]) -> socket.socket:
        """The socket that tells the process's number, and its exit code when it has ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        text = os.memfd_create("order")
        try:
            os.write(text, json.dumps(order).encode())
            socket.send_fds(self._orders, [b"start"], [*streams, theirs.fileno(), text])
        finally:
            os.close(text)
            theirs.close()
        return ours


_servers: dict[frozenset[tuple[str, str]], _Server] = {}


def _server(environment: dict[str, str]) -> _Server:
    key = frozenset(
        (name, value)
        for name, value in environment.items()
        if name.startswith(READ_AT_IMPORT) and name not in GIVEN_LATER
    )
    if key not in _servers:
        others = {name: value for name, value in environment.items() if name not in GIVEN_LATER}
        _servers[key] = _Server(others)
    return _servers[key]
