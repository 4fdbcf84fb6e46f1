"""A server of http in this process that records every request and answers wrongly on demand.

What it is a server of, its subclasses say. Nothing depends on a clock.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.servers.faults import Fault

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


@dataclass
class Seen:
    """One request; sizes in bytes of its body and of the answer's."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    sent: int = 0
    status: int = 0


@dataclass
class _Rule:
    fault: Fault
    method: str
    path: re.Pattern[str]
    left: int


class FaultyServer:
    """A context manager; `host` is its address. `lock` is held while a request is answered."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._server = _Listener(("127.0.0.1", 0), self.handler())
        self._server.owner = self
        if tls is not None:
            # the handshake is left to the connection's own thread: one that stalls must not stop the others
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.scheme = "https" if tls is not None else "http"
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def handler(self) -> type[FaultyHandler]:
        """What answers requests."""
        return FaultyHandler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join()

    def fault(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1 << 30) -> None:
        """Do `fault` for the next `times` requests of `method` (any) with a path like the pattern."""
        self._rules.append(_Rule(fault, method, re.compile(path), times))

    def heal(self) -> None:
        self._rules.clear()

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for rule in self._rules:
                if rule.left and rule.method in ("", method) and rule.path.search(path):
                    rule.left -= 1
                    return rule.fault
        return None

    def count(self, method: str = "", path: str = "") -> int:
        """How many requests there were of `method` (any) whose path matches the pattern `path`."""
        return len(self.requests(method, path))

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        with self.lock:
            return [one for one in self.seen if method in ("", one.method) and re.search(path, one.path)]

    @property
    def bytes_sent(self) -> int:
        return sum(one.sent for one in self.requests())

    @property
    def bytes_received(self) -> int:
        return sum(one.received for one in self.requests())


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    owner: FaultyServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
            self.owner.connections += 1
            self.owner.most_at_once = max(self.owner.most_at_once, len(self._open))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """End idle keep-alive connections, so that their threads end too."""
        with self._guard:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the other side cuts are no news here."""


class _Cut(Exception):
    """The connection is to end here."""


class FaultyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _Cut:
            self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def answer(self, path: str, body: bytes) -> Answer:
        """The right answer to `command`; `query` is what the address asks, `active` the fault."""
        raise NotImplementedError

    def cut_off(self, data: bytes) -> None:
        """The connection is cut after `data`, the first part of a body."""

    def _serve(self) -> None:
        owner = self.server.owner
        self.seen = Seen(self.command, self.path, dict(self.headers.items()))
        with owner.lock:
            owner.seen.append(self.seen)
        self.active = owner.take_fault(self.command, self.path) or Fault()
        if self.active.delay:
            time.sleep(self.active.delay)
        if self.active.drop:
            raise _Cut
        body = self._body()
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if self.active.status:
            return self._send(self.active.status, self.active.body, dict(self.active.headers))
        with owner.lock:
            answer = self.answer(parts.path, body)
        return self._send(*answer)

    def _wait(self) -> None:
        """Until the connection is ended, by the other side or by the end of the server."""
        while self.connection.recv(1 << 16):
            pass
        raise _Cut

    def _body(self) -> bytes:
        left = int(self.headers.get("Content-Length") or 0)
        limit = self.active.cut if self.command in ("PUT", "PATCH") else None
        data = self.rfile.read(left if limit is None else min(limit, left))
        self.seen.received = len(data)
        if len(data) < left and limit is not None:
            self.cut_off(data)
            raise _Cut
        return data

    def _send(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.seen.status = code
        if self.active.stall == -1:
            self._wait()
        if self.active.change is not None and not self.active.status:
            body = self.active.change(body)
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.active.cut if self.active.stall is None else self.active.stall
        part = body if limit is None else body[:limit]
        self.seen.sent = len(part)
        self.wfile.write(part)
        if self.active.stall is not None:
            self.wfile.flush()
            self._wait()
        if len(part) < len(body):
            self.wfile.flush()
            raise _Cut
