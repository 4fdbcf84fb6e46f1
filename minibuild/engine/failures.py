"""A RUN that fails while other builds wait for it: these take its failure, and do not run it one by one.

Who waits for a step holds a shared lock that says so. Where somebody does, the build whose command failed
leaves a note. It counts for those that began to wait before it was written, on the same terms; the last of
them removes it. A failure is never cached: who comes later finds no note, or one that does not count.

Only what the command itself did is shared, exit codes 1 to 127, and only where nothing of a single build can
have been the cause (`shareable`). BuildKit hands on every error: all clients of a step have one run of it.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final

from minibuild_store.errors import StoreBusy, StoreError
from minibuild_store.processors import bounds
from minibuild_store.shorthash import sha256

from minibuild.engine.session import Session
from minibuild.engine.voice import Running
from minibuild.errors import Cancelled, RunFailed
from minibuild.plan.steps import RunStep, SecretMount, SshMount
from minibuild.sandbox.limits import ULIMITS
from minibuild.sandbox.signals import oom_kills
from minibuild.sandbox.spec import ISOLATIONS
from minibuild.values import NamedTuple

_FORMAT: Final = 1
_KIND: Final = "failures"
_MOST_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 1 << 16
_MOST_PIECES: Final = 1 << 13
_NAMESPACES: Final = ("mnt", "net", "time", "user")


class Note(NamedTuple):
    """How a command failed; `ended` is ``time.monotonic_ns()``, of the same clock where `terms` are equal.

    `output` is the end of what it printed, as (1 or 2, text), without the first `left_out` bytes.
    """

    build: str
    terms: str
    ended: int
    code: int
    message: str
    cure: str
    left_out: int
    output: tuple[tuple[int, str], ...]


class Log:
    """What a step prints, in bounded memory: of a long output the end."""

    def __init__(self) -> None:
        self.left_out = 0
        self._pieces: deque[tuple[int, bytearray]] = deque()
        self._size = 0

    def add(self, stream: int, data: bytes) -> None:
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last[0] == stream and len(last[1]) < _PIECE_BYTES:
            last[1].extend(data)
        else:
            self._pieces.append((stream, bytearray(data)))
        self._size += len(data)
        while len(self._pieces) > 1 and (self._size > _MOST_BYTES or len(self._pieces) > _MOST_PIECES):
            gone = len(self._pieces.popleft()[1])
            self._size -= gone
            self.left_out += gone

    def pieces(self) -> tuple[tuple[int, str], ...]:
        return tuple((stream, data.decode("utf-8", "surrogateescape")) for stream, data in self._pieces)


class Waiter:
    """One step's wait for whoever runs it, in a ``with`` block around the wait for its lock."""

    def __init__(self, session: Session, key: str, step: RunStep, running: Running) -> None:
        self._session, self._key, self._step, self._running = session, key, step, running
        self._lock = session.store.lock(_waiting(key), shared=True, waiting=session.check)
        self._began = 0

    def __enter__(self) -> Waiter:
        self._lock.__enter__()
        self._began = time.monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)
        store = self._session.store
        with suppress(StoreError), store.lock(_waiting(self._key), timeout=0):  # nobody else waits
            store.records(_KIND).delete(self._key)

    def take(self) -> None:
        """Raise the failure of a build that ran the step while this one waited, after showing its output."""
        data = self._session.store.records(_KIND).get(self._key)
        note = None if data is None else _read(data)
        if note is None or note.ended < self._began or note.terms != _terms(self._session, self._step):
            return
        same = note.build == self._session.journal.id
        if same and not self._session.request.keep_going:
            raise Cancelled  # as the stage that failed is about to tell the others
        who = "another stage" if same else f"build {note.build}"
        said = f"{who} ran this step, and it failed, while this build waited for it"
        if note.output:
            less = f", after {note.left_out} bytes that are left out" if note.left_out else ""
            said += f"; it printed{less}:"
        self._running.output(1, f"{said}\n".encode())
        for stream, text in note.output:
            self._running.output(stream, text.encode("utf-8", "surrogateescape"))
        raise RunFailed(note.message, exit_code=note.code, cure=note.cure)


def shareable(session: Session, step: RunStep) -> bool:
    """Whether no credentials, debugging or program of this build alone have to do with how the step ends."""
    request = session.request
    return (
        step.cacheable
        and not session.examined
        and request.executor is None
        and request.isolation in ISOLATIONS
        and not any(isinstance(mount, SecretMount | SshMount) for mount in step.mounts)
    )


@contextmanager
def shared(session: Session, key: str, step: RunStep, running: Running) -> Iterator[None]:
    """Leave a note for those that wait where the command that is run in the block fails."""
    if not shareable(session, step):
        yield
        return
    kills = oom_kills()
    log = Log()
    running.keep = log.add
    try:
        yield
    except RunFailed as error:
        running.end_output()
        # make and the like have an exit code of their own where what they started was killed
        if 0 < error.exit_code < 128 and oom_kills() == kills:
            with suppress(StoreError):
                _leave(session, key, step, error, log)
        raise
    finally:
        running.keep = None


def _leave(session: Session, key: str, step: RunStep, error: RunFailed, log: Log) -> None:
    store = session.store
    with suppress(StoreBusy), store.lock(_waiting(key), timeout=0):
        return  # nobody waits
    terms = _terms(session, step)
    ended = time.monotonic_ns()
    note = Note(
        session.journal.id,
        terms,
        ended,
        error.exit_code,
        error.message,
        error.cure,
        log.left_out,
        log.pieces(),
    )
    store.records(_KIND).put(key, json.dumps([_FORMAT, *note]).encode())


def _read(data: bytes) -> Note | None:
    """The note in `data`; None for what another version wrote."""
    try:
        version, *fields = json.loads(data)
        return Note(*fields) if version == _FORMAT else None
    except (ValueError, TypeError):
        return None


def _waiting(key: str) -> str:
    """The name of the lock that those share who wait for the step."""
    return f"waiting for step {key}"


def _terms(session: Session, step: RunStep) -> str:
    """A digest of all beside its key that may decide how the command ends: options, user, machine."""
    from minibuild.engine.trial import fingerprint

    request = session.request
    facts = (
        (request.isolation, request.oci_runtime, request.network, request.dns, request.limits),
        (request.step_timeout, request.allow_insecure, request.allow_devices, request.cdi_spec_dirs),
        (step.proxy, session.ca_bundle),
        fingerprint(session.store),
        (os.getegid(), sorted(os.getgroups())),
        [_namespace(name) for name in _NAMESPACES],
        [resource.getrlimit(number) for number in ULIMITS.values()],
        (sorted(os.sched_getaffinity(0)), bounds()),
    )
    return sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _namespace(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{name}")
    except OSError:  # an older kernel
        return ""
