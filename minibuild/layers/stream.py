"""A layer's tar stream, decompressed ahead in one thread and hashed in another."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue
from types import TracebackType

from minibuild_store import stopping
from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.compress import CHUNK, Reader, decompressor
from minibuild.threads import join, start

_AHEAD = 4  # pieces of CHUNK bytes in each queue


class LayerStream:
    """The decompressed bytes of `fileobj`, which is at a layer blob's first byte.

    A `Reader` whose pieces are as large as they come: `read` ignores its size. With a `diff_id` call
    `verify` after the last piece. Leaving the context ends the threads, however far they are.
    """

    def __init__(self, fileobj: Reader, media_type: str | None, diff_id: Digest | None) -> None:
        self._source = decompressor(fileobj, media_type)
        self._diff_id = diff_id
        self._hash = hashlib.new(diff_id.algorithm) if diff_id else None
        self._pieces: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._hashed: Queue[bytes] = Queue(_AHEAD)
        self._stopped = False
        self._ended = False
        self._threads = [threading.Thread(target=self._pump, name="layer-read", daemon=True)]
        if self._hash:
            self._threads.append(threading.Thread(target=self._digest, name="layer-hash", daemon=True))

    def __enter__(self) -> LayerStream:
        try:
            start(*self._threads)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        while not self._ended and self._threads[0].ident is not None:  # lets the pump past a full queue
            piece = self._pieces.get()
            self._ended = not piece or isinstance(piece, BaseException)
        join(self._threads)

    def read(self, size: int = -1, /) -> bytes:
        """The next piece, ``b""`` at the end. Raises `LayerError` for damaged data."""
        if self._ended:
            return b""
        stopping.check()
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            self._ended = True
            raise piece
        self._ended = not piece
        return piece

    def verify(self) -> None:
        """Raise `LayerError` unless the whole stream has the promised diff ID."""
        while self.read():
            pass
        if self._hash is None or self._diff_id is None:
            return
        self._threads[1].join()
        if self._hash.hexdigest() != self._diff_id.hex:
            raise LayerError(
                f"the layer's content is {self._diff_id.algorithm}:{self._hash.hexdigest()}, "
                f"but its image promises {self._diff_id}",
                cure="The image is damaged or was tampered with: fetch it again.",
            )

    def _pump(self) -> None:
        last: bytes | BaseException = b""
        try:
            while not self._stopped and (piece := self._source.read(CHUNK)):
                if self._hash:
                    self._hashed.put(piece)
                self._pieces.put(piece)
        except BaseException as error:  # raised again where the stream is read
            last = error
        self._hashed.put(b"")
        self._pieces.put(last)

    def _digest(self) -> None:
        assert self._hash is not None
        while piece := self._hashed.get():
            self._hash.update(piece)
