"""Reading bytes that must be what their digest promises."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable

from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged
from minibuild_store.stopping import check

CHUNK = 1 << 20


def hash_file(fd: int, algorithm: str = "sha256") -> hashlib._Hash:
    """The hash state over all of the open file `fd`; leaves its offset alone."""
    state = hashlib.new(algorithm)
    offset = 0
    while chunk := os.pread(fd, CHUNK, offset):
        check()
        state.update(chunk)
        offset += len(chunk)
    return state


class VerifiedReader(io.RawIOBase):
    """Reads an open file to its end; the read that reaches the end raises `BlobDamaged` if the bytes differ.

    So does every read after it. Bytes handed out before are not yet verified. Not seekable.
    """

    def __init__(self, fd: int, digest: Digest, size: int, damaged: Callable[[], None]) -> None:
        super().__init__()
        self._fd = fd
        self._digest = digest
        self._left = size
        self._hash = hashlib.new(digest.algorithm)
        self._damaged = damaged
        self._checked = False
        self._error: BlobDamaged | None = None

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        data = os.read(self._fd, min(size, self._left))
        self._advance(data, ended=size > 0 and not data)
        return data

    def readall(self) -> bytes:
        chunks = []
        while chunk := self.read(min(self._left, CHUNK) or 1):
            chunks.append(chunk)
        return b"".join(chunks)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with memoryview(buffer).cast("B") as whole, whole[: self._left] as target:
            count = os.readv(self._fd, [target])
            self._advance(target[:count], ended=len(whole) > 0 and not count)
        return count

    def _advance(self, data: bytes | memoryview, *, ended: bool) -> None:
        check()
        self._hash.update(data)
        self._left -= len(data)
        if not self._left or ended:
            self._check()

    def _check(self) -> None:
        if not self._checked:
            self._checked = True
            got = f"{self._digest.algorithm}:{self._hash.hexdigest()}"
            if got != self._digest:
                self._damaged()
                self._error = BlobDamaged(self._digest, got=got, want=self._digest)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
