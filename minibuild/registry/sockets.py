"""Connections that can be told to stop: whatever waits for the other side asks `stopping.check` meanwhile."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import urllib3
from minibuild_store import stopping
from urllib3.connection import HTTPConnection, HTTPSConnection

from minibuild.threads import start

T = TypeVar("T")


def _patiently(sock: socket.socket, call: Callable[..., T], *arguments: Any) -> T:
    """`call`, again and again until it comes to something, or the socket's timeout has passed."""
    stopping.check()
    limit = sock.gettimeout()
    if limit == 0:
        return call(*arguments)
    end = None if limit is None else time.monotonic() + limit
    try:
        while True:
            left = stopping.POLL if end is None else end - time.monotonic()
            sock.settimeout(max(min(left, stopping.POLL), 0.001))
            try:
                return call(*arguments)
            except TimeoutError:
                if end is not None and time.monotonic() >= end:
                    raise
            stopping.check()
    finally:
        with contextlib.suppress(OSError):  # closed meanwhile
            sock.settimeout(limit)


class _Plain(socket.socket):
    def recv_into(self, *arguments: Any) -> int:
        return _patiently(self, super().recv_into, *arguments)

    def sendall(self, data: Any, flags: int = 0) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[_patiently(self, self.send, rest, flags) :]


class _Encrypted(_Plain, ssl.SSLSocket):
    """What was begun before a timeout goes on with the next call: OpenSSL keeps it."""

    def do_handshake(self, block: bool = False) -> None:
        _patiently(self, super().do_handshake, block)


def _connected(connect: Callable[[], socket.socket]) -> socket.socket:
    """What `connect` gives, on a thread of its own: it looks a name up, which nothing can interrupt."""
    found: list[socket.socket] = []
    errors: list[BaseException] = []
    over = threading.Event()
    wanted = True

    def work() -> None:
        try:
            made = connect()
        except BaseException as error:
            errors.append(error)
        else:
            found.append(made)
            if not wanted:
                made.close()
        over.set()

    start(threading.Thread(target=work, name="connect", daemon=True))
    try:
        while not over.wait(stopping.POLL):
            stopping.check()
    except BaseException:
        wanted = False
        for late in found:
            late.close()
        raise
    if errors:
        raise errors[0]
    plain = found[0]
    limit = plain.gettimeout()
    made = _Plain(fileno=plain.detach())
    made.settimeout(limit)
    return made


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(super()._new_conn)


class _EncryptedConnection(HTTPSConnection):
    def connect(self) -> None:
        if self.ssl_context is None:
            self.ssl_context = ssl.create_default_context()
        self.ssl_context.sslsocket_class = _Encrypted
        super().connect()

    def _new_conn(self) -> socket.socket:
        return _connected(super()._new_conn)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _EncryptedConnection


def use(manager: urllib3.PoolManager) -> None:
    """Have `manager` make such connections; one without a context of its own encrypts by the default one."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _EncryptedPool}
