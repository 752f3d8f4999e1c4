"""The process that others are forked from: `server.py LISTENER PYTHON`, with orders from stdin."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import os
import runpy
import select
import signal
import socket
import sys
from types import ModuleType
from typing import Any, NoReturn

__all__: list[str] = []

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


def _serve(listener: socket.socket) -> dict[str, Any]:
    """Import the libraries, then fork for each order; returns in the process that carries it out.

    Orders come from the tests, or by way of `tests.warm.client` from processes that were forked.
    The process between the server and the ordered one waits for its end and tells its exit code.
    """
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    inspect.stack.__defaults__ = (0,)  # See `tests.surroundings`.
    gc.collect()
    gc.freeze()  # Or each process would walk through all of it at its end, which takes a second.
    orders = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for those in between.
    while True:
        received = _received(orders, listener)
        if os.fork():
            for descriptor in received:
                os.close(descriptor)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        orders.detach()
        listener.close()
        *streams, keeper, text = received
        with os.fdopen(text, "rb") as file:
            file.seek(0)
            order: dict[str, Any] = json.load(file)
        child = os.fork()
        if child:
            for descriptor in (0, 1, 2, *streams):
                os.close(descriptor)
            _keep(child, socket.socket(fileno=keeper), owned=order.get("owned", False))
        os.close(keeper)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return order


def _received(orders: socket.socket, listener: socket.socket) -> list[int]:
    """Of the next order: the streams, the socket that is told of its end, and its text."""
    while True:
        if orders not in select.select([orders, listener], [], [])[0]:
            client = listener.accept()[0]
            message, received, *_ = socket.recv_fds(client, 16, 8)
            if message:
                return [*received[:3], client.detach(), *received[3:]]
            continue  # It was killed meanwhile.
        message, received, *_ = socket.recv_fds(orders, 16, 8)
        if not message:
            os._exit(0)  # The tests are over.
        return received


def _keep(child: int, told: socket.socket, *, owned: bool) -> NoReturn:
    """Tell the number of a process, and its exit code in the end.

    Args:
        child: The process.
        told: Whom.
        owned: Whether the process is killed when nobody is there any more to be told.
    """
    with contextlib.suppress(BrokenPipeError):  # Nobody is there any more.
        told.send(str(child).encode())
    if owned:
        ended = os.pidfd_open(child)
        if ended not in select.select([ended, told], [], [])[0]:
            os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        told.send(str(code).encode())
    os._exit(0)


def _carry_out(order: dict[str, Any], python: str) -> None:
    sys.executable = python
    kind, what, *arguments = order["arguments"]
    if order["session"]:
        os.setsid()
    os.chdir(order["folder"])
    libraries = sys.path[1:]  # Without the folder of this file.
    os.environ.clear()
    os.environ.update(order["environment"])
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [order["folder"] if kind == "-m" else "", *folders, *libraries]
    _read_again()
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))  # noqa: S102


def _read_again() -> None:
    """Give libraries those of their settings that often differ, which they have read at import."""
    if threads := os.environ.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))
    if kubernetes := sys.modules.get("kubernetes.config.kube_config"):
        place = os.environ.get("KUBECONFIG", "~/.kube/config")
        vars(kubernetes)["KUBE_CONFIG_DEFAULT_LOCATION"] = place


if __name__ == "__main__":
    _carry_out(_serve(socket.socket(fileno=int(sys.argv[1]))), sys.argv[2])
