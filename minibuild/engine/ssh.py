"""ssh agents for RUN: a socket of the step's own, behind which only listing and signing is answered.

Protocol: draft-ietf-sshm-ssh-agent. A step may use the keys while it runs; adding, removing and locking
them, and extensions, are refused here, as BuildKit refuses them.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from minibuild.engine.request import SshAgent
from minibuild.errors import UsageError

_REQUEST_IDENTITIES: Final = 11
_SIGN_REQUEST: Final = 13
_ALLOWED: Final = (_REQUEST_IDENTITIES, _SIGN_REQUEST)
_FAILURE: Final = b"\0\0\0\1\5"
_MAX_MESSAGE: Final = 256 * 1024
_MAX_CONNECTIONS: Final = 32
_MAX_KEY: Final = 100 * 1024
_SECONDS: Final = 10.0


def agent_for(agents: Sequence[SshAgent], name: str) -> SshAgent | None:
    """The agent that the caller forwards as `name`."""
    return next((agent for agent in agents if agent.id == name), None)


@contextlib.contextmanager
def forwarded(agent: SshAgent, folder: Path) -> Iterator[Path]:
    """A socket in `folder` that answers for `agent` until the block is left. Raises `UsageError`."""
    with contextlib.ExitStack() as stack:
        upstream = agent.socket
        if upstream is None:
            upstream = stack.enter_context(_agent_with(agent.keys, folder))
        else:
            _connect(upstream).close()  # better said now than by ssh, inside
        yield stack.enter_context(_Proxy(folder / "ssh", upstream))


class _Proxy(contextlib.AbstractContextManager[Path]):
    """Listens at `path`; each connection has one of its own to `upstream`, and a thread."""

    def __init__(self, path: Path, upstream: Path) -> None:
        self._path = path
        self._upstream = upstream
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: set[socket.socket] = set()
        self._mutex = threading.Lock()
        self._room = threading.Semaphore(_MAX_CONNECTIONS)
        self._closed = False

    def __enter__(self) -> Path:
        with _short(self._path) as name:
            self._listener.bind(name)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self._path

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._closed = True
            for connection in (self._listener, *self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            self._room.acquire()  # a step that opens connections without end waits for itself
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, _connect(self._upstream) as agent:
                with self._mutex:
                    if self._closed:
                        return
                    self._open |= {connection, agent}
                try:
                    while _exchange(connection, agent):
                        pass
                finally:
                    with self._mutex:
                        self._open -= {connection, agent}
        except (OSError, UsageError):
            pass  # ssh inside says that its agent is gone
        finally:
            self._room.release()


def _exchange(connection: socket.socket, agent: socket.socket) -> bool:
    """One request and its answer; false when the connection is over."""
    request = _message(connection)
    if not request:
        return False
    if request[4] not in _ALLOWED:
        connection.sendall(_FAILURE)
        return True
    agent.sendall(request)
    answer = _message(agent)
    connection.sendall(answer)
    return bool(answer)


def _message(source: socket.socket) -> bytes:
    """One message with its length; b"" at the end, or for one that no agent would take."""
    head = _exactly(source, 4)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or not 1 <= size <= _MAX_MESSAGE:
        return b""
    body = _exactly(source, size)
    return head + body if len(body) == size else b""


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = source.recv(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            connection.connect(name)
    except OSError as error:
        connection.close()
        raise UsageError(
            f"no ssh agent answers at {path}: {error.strerror}",
            cure="Start one (eval $(ssh-agent); ssh-add), or give a key: --ssh default=KEYFILE.",
        ) from None
    return connection


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that fits into the 108 bytes of a socket's address (unix(7))."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


@contextlib.contextmanager
def _agent_with(keys: Sequence[Path], folder: Path) -> Iterator[Path]:
    """An ssh-agent of our own that holds `keys`, in memory; it ends with the block, or with this process."""
    programs = [shutil.which(name) for name in ("ssh-agent", "ssh-add")]
    if None in programs:
        raise UsageError(
            "ssh-agent and ssh-add are needed to use key files, and are not installed",
            cure="Install them (openssh-client on Debian, openssh-clients on Fedora), or forward an agent:"
            " --ssh default.",
        )
    # The shell ends its agent, and waits for it, at the end of its input: with this block or this process.
    process = subprocess.Popen(
        ["sh", "-c", "ssh-agent -D -a agent >/dev/null & read _; kill $!; wait"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stderr is not None
    try:
        _await(folder / "agent", process.stderr)
        for key in keys:
            _add_key(key, folder)
        yield folder / "agent"
    finally:
        process.stdin.close()
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stderr.close()


def _await(path: Path, errors: IO[bytes]) -> None:
    """Until the agent listens at `path`; raises `UsageError` with what it wrote to `errors` instead."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return _connect(path).close()
        except UsageError:
            if select.select([errors], [], [], 0.005)[0] or time.monotonic() > deadline:
                reason = os.read(errors.fileno(), 4096).decode(errors="replace").strip()
                raise UsageError(f"ssh-agent does not start: {reason}") from None


def _add_key(key: Path, folder: Path) -> None:
    try:
        with key.open("rb") as file:
            data = file.read(_MAX_KEY)
    except OSError as error:
        raise UsageError(
            f"cannot read ssh key {key}: {error.strerror}", cure="Check the path given to --ssh."
        ) from None
    environment = {**os.environ, "SSH_AUTH_SOCK": "agent", "SSH_ASKPASS_REQUIRE": "never"}
    done = subprocess.run(
        ["ssh-add", "-q", "-"],
        cwd=folder,
        input=data,
        capture_output=True,
        env=environment,
        start_new_session=True,  # no terminal to ask for a passphrase on
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        if not reason or "passphrase" in reason:
            reason = "it has a passphrase"
        raise UsageError(
            f"ssh key {key} cannot be used: {reason}",
            cure="A key with a passphrase has to be in an agent: ssh-add it and pass --ssh default.",
        )
