"""moto on loopback, which answers one request after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.ports import running

__all__ = ["Application", "moto_server"]

Application = Callable[..., Iterable[bytes]]

_ONE_AT_A_TIME = Lock()
"""All servers of a process share one state."""


@contextmanager
def moto_server(around: Callable[[Application], Application] = lambda app: app) -> Iterator[str]:
    """A server that ends with the block; yields its address.

    moto looks at the condition of a request some time before it writes, and of two requests at
    once both may pass. What it stands for decides when it writes.

    Args:
        around: What stands between clients and moto.
    """
    app = around(DomainDispatcherApplication(create_backend_app))

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with _ONE_AT_A_TIME:
            return app(environ, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=MotoRequestHandler)
    with running(server) as url:
        yield url
