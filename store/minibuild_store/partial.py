"""Downloads that outlive the process that began them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, store_error
from minibuild_store.files import write_all
from minibuild_store.lock import release, take_waiting
from minibuild_store.stopping import check
from minibuild_store.verify import hash_file

Place = Callable[[int, str, Digest], None]


class Partial:
    """The bytes of one blob got so far, appended to by one writer at a time.

    Entering waits for another writer, then reads what is there back to hash it. That writer may have finished
    the blob meanwhile, so ask `blobs.has` after entering. A `with` block that ends without a commit keeps the
    bytes for the next one, in this process or another.

        with blobs.partial(digest) as download:
            if not blobs.has(digest):
                for chunk in fetch(start=download.size):
                    download.write(chunk)
                download.commit(size=expected)
    """

    __slots__ = ("_digest", "_fd", "_hash", "_path", "_place", "_root", "_timeout", "size")

    def __init__(self, path: str, digest: Digest, timeout: float | None, root: str, place: Place) -> None:
        self._path = path
        self._digest = digest
        self._timeout = timeout
        self._root = root
        self._place = place
        self._fd = -1
        self._hash = hashlib.new(digest.algorithm)
        self.size = 0
        """Bytes already there; the next write goes after them."""

    def __enter__(self) -> Partial:
        """Take the file; raises `StoreBusy` when `timeout` seconds pass, `StoreFull`, `StoreUnusable`."""
        try:
            give_up = None if self._timeout is None else time.monotonic() + self._timeout
            self._fd = take_waiting(self._path, f"the download of {self._digest}", give_up=give_up)
            self._hash = hash_file(self._fd, self._digest.algorithm)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except BaseException as error:
            self._let_go(keep=True)
            if isinstance(error, OSError):
                raise store_error(error, self._root) from error
            raise
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises `StoreFull`, after which the bytes before `data` are still good."""
        check()
        try:
            write_all(self._fd, data)
        except OSError as error:
            os.ftruncate(self._fd, self.size)
            raise store_error(error, self._root) from error
        self._hash.update(data)
        self.size += data.nbytes if isinstance(data, memoryview) else len(data)

    def restart(self) -> None:
        """Forget all bytes: the server would not resume, or sent something else."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._digest.algorithm)
        self.size = 0

    def commit(self, *, size: int | None = None) -> None:
        """Make it a blob; raises `BlobDamaged` and forgets the bytes if they are not what was promised."""
        got = f"{self._digest.algorithm}:{self._hash.hexdigest()}"
        if size is not None and size != self.size:
            wrong = BlobDamaged(self._digest, got=self.size, want=size)
            if self.size > size:
                self.restart()
            raise wrong
        if got != self._digest:
            self.restart()
            raise BlobDamaged(self._digest, got=got, want=self._digest)
        fd, self._fd = self._fd, -1
        self._place(fd, self._path, self._digest)

    def __exit__(self, *_: object) -> None:
        self._let_go(keep=self.size > 0)

    def _let_go(self, *, keep: bool) -> None:
        """Give the file to the next writer, or remove it; does nothing after a commit."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            release(fd, None if keep else self._path)
