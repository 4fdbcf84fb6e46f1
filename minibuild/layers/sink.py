"""Where the bytes of a layer go: hashed as they come, compressed, hashed again, written.

The caller's thread fills fixed slots of memory. From the first full slot on, threads take them: one
hashes, one compresses, one hashes and writes what comes out; a slot is filled again when the first
two are done with it. Smaller layers start no thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

from minibuild_store import stopping
from minibuild_store.digest import Digest

from minibuild.layers.compress import CHUNK, Compression
from minibuild.threads import start
from minibuild.values import NamedTuple

_SLOTS: Final = 6
_Bytes = bytes | memoryview
Seen = Callable[[_Bytes], object]


class SinkResult(NamedTuple):
    """What was written: `diff_id` and `uncompressed_size` before compression, the rest after."""

    diff_id: Digest
    digest: Digest
    size: int
    uncompressed_size: int


class LayerSink:
    """Writes a stream to `fd`, from its file offset on, as one compressed blob.

    Writing fails (a full disk) with the `OSError` of the failed call, raised from whichever method
    comes next; `stopping.check` is asked once a chunk. Left early, as a context manager or by `abort`,
    no thread remains. One caller at a time.
    """

    def __init__(self, fd: int, compression: Compression) -> None:
        self._blob = _Blob(fd)
        self._compressor = compression.compressor()
        self._diff = hashlib.sha256()
        self._workers: tuple[_Worker, ...] = ()
        self._memory = mmap.mmap(-1, _SLOTS * CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with memoryview(self._memory) as whole:
            self._slots = [whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK)]
        self._slot = self._slots[0]
        self._filled = 0
        self._passed_on = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def position(self) -> int:
        """How many bytes have come so far."""
        return self._passed_on * CHUNK + self._filled

    def write(self, data: bytes) -> None:
        """Take all of `data`."""
        start = self._filled
        end = start + len(data)
        if end < CHUNK:
            self._slot[start:end] = data
            self._filled = end
            return
        taken = 0
        while taken < len(data):
            count = min(len(data) - taken, CHUNK - self._filled)
            self._slot[self._filled : self._filled + count] = data[taken : taken + count]
            self._advance(count)
            taken += count

    def member(self, head: bytes, fd: int, size: int, tail: bytes, seen: Seen | None = None) -> int:
        """`head`, then as `copy`, then `tail` where there were `size` bytes."""
        start = self._filled + len(head)
        end = start + size
        if end + len(tail) < CHUNK:
            self._slot[self._filled : start] = head
            got = os.readv(fd, (self._slot[start : end + 1],))
            if seen is not None:
                seen(self._slot[start : start + got])
            self._filled = start + got
            if got < size:
                got += self.copy(fd, size - got, seen)
        else:  # the end of the slot comes first
            self.write(head)
            got = self.copy(fd, size, seen)
        if got == size:
            self.write(tail)
        return got

    def copy(self, fd: int, size: int, seen: Seen | None = None) -> int:
        """Take `size` bytes from `fd`'s offset on; returns how many there were: at most `size` + 1.

        `seen` is shown what comes, piece by piece.
        """
        left = size
        while True:
            start = self._filled
            # one byte more than wanted tells a source that has grown, at no further call
            room = self._slot[start : start + left + 1]
            got = os.readv(fd, (room,))
            if got > left:
                return size + 1
            left -= got
            if seen is not None:
                seen(room[:got])
            self._advance(got)
            if not got or (not left and got < len(room)):
                return size - left

    def close(self) -> SinkResult:
        """End the blob. Nothing is flushed to the disk itself."""
        try:
            self._join()
            rest = bytes(self._slot[: self._filled])
            self._diff.update(rest)
            diff_id = Digest("sha256:" + self._diff.hexdigest())
            if self._compressor is None:
                self._blob.write(rest)
                digest = diff_id
            else:
                self._blob.add(self._compressor.compress(rest))
                self._blob.add(self._compressor.flush())
                digest = self._blob.digest
            return SinkResult(diff_id, digest, self._blob.size, self.position)
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up; what was written stays in the file. Harmless after `close`."""
        for worker in self._workers:
            worker.stop()
        self._workers = ()
        for slot in self._slots:
            slot.release()
        with contextlib.suppress(BufferError):  # the traceback of an error may hold a piece of it
            self._memory.close()

    def _advance(self, count: int) -> None:
        self._filled += count
        if self._filled < CHUNK:
            return
        stopping.check()
        if not self._workers:
            self._start()
        for worker in self._workers[:2]:
            worker.give(self._slot)
        # a worker holds at most one slot fewer than there are: both are done with the next
        self._passed_on += 1
        self._slot = self._slots[self._passed_on % _SLOTS]
        self._filled = 0

    def _start(self) -> None:
        blob, compressor = self._blob, self._compressor
        hashing = _Worker(self._diff.update)
        self._workers = (hashing,)  # one after the other: `abort` ends those that could be started
        if compressor is None:
            self._workers = (hashing, _Worker(blob.write))
            return
        compress = compressor.compress
        writing = _Worker(blob.add)
        self._workers = (hashing, writing)
        self._workers = (hashing, _Worker(lambda slot: writing.give(compress(slot))), writing)

    def _join(self) -> None:
        """Wait until all that was given is worked off; raises what went wrong, first things first."""
        workers, self._workers = self._workers, ()
        errors = [worker.stop() for worker in workers]
        for error in reversed(errors):
            if error is not None:
                raise error


class _Blob:
    """The file under the blob, its size and its hash."""

    def __init__(self, fd: int) -> None:
        self.size = 0
        self._fd = fd
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        """Of what was added; not of what was written past `add`."""
        return Digest("sha256:" + self._hash.hexdigest())

    def add(self, data: _Bytes) -> None:
        self._hash.update(data)
        self.write(data)

    def write(self, data: _Bytes) -> None:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(self._fd, view[done:])
            self.size += done


class _Worker:
    """A thread that hands what it is given to one function, in order, holding `_SLOTS` - 1 at most."""

    def __init__(self, work: Callable[[memoryview], object] | Callable[[_Bytes], object]) -> None:
        self._work = work
        self._todo: SimpleQueue[_Bytes | None] = SimpleQueue()
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(_SLOTS - 1):
            self._free.put(None)
        self._error: BaseException | None = None
        # a daemon: an owner that is lost without `stop` must not keep the process from ending
        self._thread = threading.Thread(target=self._run, name="layer", daemon=True)
        start(self._thread)

    def give(self, data: _Bytes) -> None:
        """Wait for room, then leave `data`; raises what an earlier piece met."""
        self._free.get()
        if self._error is not None:
            self._free.put(None)
            raise self._error
        self._todo.put(data)

    def stop(self) -> BaseException | None:
        """Work off what is there and end; returns what went wrong."""
        self._todo.put(None)
        self._thread.join()
        return self._error

    def _run(self) -> None:
        while (data := self._todo.get()) is not None:
            if self._error is None:
                try:
                    self._work(data)  # type: ignore[arg-type]
                except BaseException as error:
                    self._error = error
            self._free.put(None)
