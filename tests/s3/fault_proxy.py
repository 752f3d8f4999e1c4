"""A proxy before an S3 server that breaks what it is told to break."""

from __future__ import annotations

import http.client
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Fault", "FaultProxy", "fault_proxy"]

Kind = Literal[
    *("reset", "slow down", "silence", "truncate", "corrupt body", "corrupt answer", "lost answer")
]
"""A lost answer is one to a request that the server has carried out."""
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>"


@dataclass
class Fault:
    """What happens to the next requests of a method."""

    kind: Kind
    method: str
    times: int = 1
    containing: str = ""
    """Only requests with this in their target."""


@dataclass
class FaultProxy:
    """The faults that are still to come, and the requests that have been."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    """Seconds in which clients waited for an answer that did not come, until they hung up."""
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, method: str, target: str) -> Kind | None:
        """The fault that meets a request, which is used up by it."""
        with self._lock:
            self.requests.append(f"{method} {target}")
            for fault in self.faults:
                if fault.times and fault.method == method and fault.containing in target:
                    fault.times -= 1
                    return fault.kind
        return None


_LIFE_SIGN = 0.2
"""Seconds between two; a client that hears nothing takes the server for silent after a second."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        """Let the client send its body."""
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.proxy.fault_of(self.command, self.path)
        if kind == "silence":
            self._say_nothing()
        if kind in ("silence", "reset"):
            return self._reset()
        if kind == "slow down":
            return self._send(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
        if kind == "corrupt body":
            body = bytes([body[0] ^ 1]) + body[1:]
        try:
            answer, content = self._asked(body)
        except OSError:
            return self._reset()
        if kind == "lost answer":
            return self._reset()
        if kind == "corrupt answer":
            content = bytes([content[0] ^ 1]) + content[1:]
        cut = len(content) // 2 if kind == "truncate" else len(content)
        return self._send(answer.status, answer.getheaders(), content, cut)

    def _asked(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server answers. While it works the client hears that it does.

        Only a silence that was asked for is one to the client: a server that takes long, on a
        machine that is busy, is no fault.
        """

        def ask() -> tuple[http.client.HTTPResponse, bytes]:
            address = urlsplit(self.proxy.upstream)
            upstream = http.client.HTTPConnection(str(address.hostname), address.port, timeout=600)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            return answer, answer.read()

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            while not wait([asked], _LIFE_SIGN).done:
                self.handle_expect_100()
            return asked.result()

    def _say_nothing(self) -> None:
        """Until the client hangs up, or the faults are over."""
        begin = time.monotonic()
        while not select.select([self.connection], [], [], 0.05)[0]:
            if self.proxy.over.is_set():
                return
        self.proxy.silences.append(time.monotonic() - begin)

    def _send(
        self, status: int, headers: list[tuple[str, str]], content: bytes, cut: int | None = None
    ) -> None:
        self.send_response_only(status)
        kept = [(n, v) for n, v in headers if n.lower() not in ("transfer-encoding", "connection")]
        for name, value in kept:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in kept):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:cut])
        if cut is not None and cut < len(content):
            self._reset()

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone is what these tests are about."""


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy that ends with the block."""
    state = FaultProxy(upstream)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
