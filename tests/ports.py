"""Ports of this machine that servers of tests listen at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from threading import Thread

__all__ = ["free_port", "running", "served"]

_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port for whoever is told of it: until this process ends, nobody else gets it.

    A socket that does not listen holds it. Connections are refused; the system gives the port to
    none of the many that ask for any; and a server that asks for this one may have it, again and
    again, as both of them let the address be used again.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    port: int = held.getsockname()[1]
    return port


@contextmanager
def running(server: HTTPServer) -> Iterator[str]:
    """Answer requests until the block ends; yields the address."""
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests in threads until the block ends; yields the address."""
    with running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield url
