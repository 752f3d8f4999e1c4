"""Python processes that start with torch and transformers already imported.

A new interpreter spends seconds of a core on the imports of a training before it does anything,
and the tests start a hundred of them. Here one process a test worker imports those libraries once;
each further process is forked from it, and then gets arguments, folder, environment, standard
streams and `sys.path` of its own and runs its module or its code as the main program, to the
interpreter's ordinary end. Only libraries are imported beforehand: the project's own modules are
imported by each process.

What a test says about the start of a process, about its memory or about what is imported needs
`subprocess`. With TSPIN_TEST_PROCESSES=new all processes are new interpreters.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Popen", "run", "spawn"]

LIBRARIES = (
    "accelerate",
    "boto3",
    "kfp.dsl.executor_main",
    "numpy",
    "peft",
    "plotly.graph_objects",
    "pyarrow.parquet",
    "rich.logging",
    "scipy.stats",
    "torch.distributed.run",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "typer",
)
READ_AT_IMPORT = ("HF_", "HUGGING", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_")
READ_AT_IMPORT += ("PYTHON", "TOKENIZERS_", "TORCH", "TRANSFORMERS_")
"""Variables that Python or the libraries look at but once: another value needs another server."""

GIVEN_LATER = ("OMP_NUM_THREADS", "PYTHONPATH")
"""What each process takes from its own environment all the same: see `_carry_out`."""


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
        if program != sys.executable or arguments[0] not in ("-m", "-c") or any(unknown):
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
            [sys.executable, "-c", code, json.dumps([rank, *arguments])],
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
        with theirs:
            subprocess.Popen(
                [sys.executable, __file__],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

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


def _serve() -> dict[str, Any]:
    """Import the libraries, then fork for each order; returns in the process that carries it out.

    The process between the server and the ordered one waits for its end and tells its exit code.
    """
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # Or each process would walk through all of it at its end, which takes a second.
    orders = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for those in between.
    while True:
        message, received, *_ = socket.recv_fds(orders, 16, 8)
        if not message:
            os._exit(0)  # The tests are over.
        if os.fork():
            for each in received:
                os.close(each)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        orders.detach()
        *streams, keeper, text = received
        child = os.fork()
        if child:
            told = socket.socket(fileno=keeper)
            for each in (0, 1, 2, *streams):
                os.close(each)
            told.send(str(child).encode())
            told.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
            os._exit(0)
        os.close(keeper)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        with os.fdopen(text, "rb") as file:
            file.seek(0)
            order: dict[str, Any] = json.load(file)
        return order


def _carry_out(order: dict[str, Any]) -> None:
    kind, what, *arguments = order["arguments"]
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    libraries = sys.path[1:]  # Without the folder of this file.
    os.environ.clear()
    os.environ.update(order["environment"])
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [order["folder"] if kind == "-m" else "", *folders, *libraries]
    if threads := os.environ.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))  # noqa: S102


if __name__ == "__main__":
    _carry_out(_serve())
