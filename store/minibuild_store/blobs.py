"""Contents by digest, one file each."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, BlobNotFound, InvalidDigest, store_error
from minibuild_store.files import sync_folder, unlink_quietly, write_all
from minibuild_store.session import Session
from minibuild_store.stopping import check
from minibuild_store.tuples import NamedTuple

if TYPE_CHECKING:
    from minibuild_store.partial import Partial

_CHUNK = 1 << 20


class BlobInfo(NamedTuple):
    """A content: what it is and how many bytes."""

    digest: Digest
    size: int


class BlobWriter:
    """A blob in the making; a `with` block that ends without a commit leaves nothing behind."""

    __slots__ = ("_blobs", "_hash", "_path", "_size", "fd")

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        import hashlib  # OpenSSL's; see `shorthash`

        self._hash = hashlib.sha256()
        self._size = 0
        try:
            self.fd, self._path = blobs.session.new_file()
        except OSError as error:
            raise store_error(error, blobs.session.root) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises `StoreFull`."""
        check()
        try:
            write_all(self.fd, data)
        except OSError as error:
            self.abort()
            raise store_error(error, self._blobs.session.root) from error
        self._hash.update(data)
        self._size += data.nbytes if isinstance(data, memoryview) else len(data)

    def commit(self, *, expect: Digest | None = None, size: int | None = None) -> BlobInfo:
        """Put the blob in its place; raises `BlobDamaged` if it is not `expect` or not of `size` bytes.

        Bytes that came through `fd` are read back to be hashed.
        """
        algorithm = expect.algorithm if expect else "sha256"
        actual = os.fstat(self.fd).st_size
        state = self._hash
        if actual != self._size or algorithm != "sha256":
            from minibuild_store.verify import hash_file

            state = hash_file(self.fd, algorithm)
        info = BlobInfo(Digest(f"{algorithm}:{state.hexdigest()}"), actual)
        if size is not None and size != actual:
            self.abort()
            raise BlobDamaged(expect or info.digest, got=actual, want=size)
        if expect and expect != info.digest:
            self.abort()
            raise BlobDamaged(expect, got=info.digest, want=expect)
        return self._place(info)

    def commit_hashed(self, info: BlobInfo) -> BlobInfo:
        """Put in place what a trusted writer wrote through `fd` and hashed; only the size is checked."""
        actual = os.fstat(self.fd).st_size
        if actual != info.size:
            self.abort()
            raise BlobDamaged(info.digest, got=actual, want=info.size)
        return self._place(info)

    def _place(self, info: BlobInfo) -> BlobInfo:
        fd, self.fd = self.fd, -1
        try:
            self._blobs.place(fd, self._path, info.digest)
        except BaseException:
            unlink_quietly(self._path)
            raise
        return info

    def abort(self) -> None:
        """Forget what was written; does nothing after a commit."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            unlink_quietly(self._path)
            os.close(fd)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when somebody writes to a file, or sets its times back."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class Blobs:
    """The blobs of one store. What this process commits is kept from gc until the store is closed."""

    def __init__(self, folder: str, partials: str, session: Session) -> None:
        self.session = session
        self._folder = folder
        self._partials = partials
        self._sound: dict[Digest, tuple[int, int, int]] = {}  # as `_mark` has them

    def _name(self, digest: Digest) -> str:
        algorithm, _, name = digest.partition(":")
        if not name.isalnum() or not algorithm.isalnum():  # never a path of the caller's choice
            raise InvalidDigest(digest)
        return f"{self._folder}/{algorithm}/{name}"

    def path(self, digest: Digest) -> Path:
        """Where the blob lies or would lie; read-only for all, to be linked or copied but never changed."""
        return Path(self._name(digest))

    def status(self, digest: Digest) -> os.stat_result | None:
        """What stat(2) says of the blob, None if it is absent."""
        try:
            return os.stat(self._name(digest))
        except FileNotFoundError:
            return None

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None if it is absent."""
        status = self.status(digest)
        return None if status is None else status.st_size

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Is the blob here, and of `size` bytes if given?"""
        found = self.size(digest)
        return found is not None and (size is None or found == size)

    def put(self, data: bytes) -> BlobInfo:
        """Store `data`; raises `StoreFull`."""
        digest = Digest.of(data)
        self.session.hold(digest)
        if self._holds(digest, data):
            return BlobInfo(digest, len(data))
        with BlobWriter(self) as writer:
            writer.write(data)
            return writer.commit_hashed(BlobInfo(digest, len(data)))

    def _holds(self, digest: Digest, data: bytes) -> bool:
        # compared rather than believed: writing again is how a damaged blob heals
        if len(data) > 1 << 20 or self.size(digest) != len(data):
            return False
        with self.open(digest) as file:
            return file.read() == data

    def writer(self) -> BlobWriter:
        """Begin a new blob of any size."""
        return BlobWriter(self)

    def partial(self, digest: Digest, *, timeout: float | None = None) -> Partial:
        """The unfinished download of `digest`, with what an earlier process got of it; see `Partial`."""
        from minibuild_store.partial import Partial

        name = os.path.basename(self._name(digest))
        return Partial(
            f"{self._partials}/{digest.algorithm}-{name}", digest, timeout, self.session.root, self.place
        )

    def get(self, digest: Digest) -> bytes:
        """All bytes of the blob, verified; raises `BlobNotFound`, `BlobDamaged`."""
        with self.open_verified(digest) as file:
            return file.read()

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as a seekable stream, not verified; raises `BlobNotFound`."""
        return cast(BinaryIO, io.FileIO(self._open(digest), "rb"))

    def open_verified(self, digest: Digest, size: int | None = None) -> BinaryIO:
        """The blob as a stream whose last read raises `BlobDamaged` if the bytes differ.

        Raises `BlobNotFound`, and `BlobDamaged` at once if it is not of `size` bytes. A blob whose bytes
        differ is removed, so that the next build makes or fetches it again.
        """
        fd = self._open(digest)
        found = os.fstat(fd).st_size
        if size is not None and found != size:
            os.close(fd)
            raise BlobDamaged(digest, got=found, want=size)
        from minibuild_store.verify import VerifiedReader

        name = self._name(digest)
        return cast(BinaryIO, VerifiedReader(fd, digest, found, lambda: unlink_quietly(name)))

    @contextmanager
    def reading(self, digest: Digest) -> Iterator[BinaryIO]:
        """The blob as a stream to go forward in; leaving the block raises `BlobDamaged` if the bytes differ.

        So what was read counts once the block has ended well, however much it was: what is left is read
        then. A blob that this store put, or read to its end, and whose inode has not changed since, is not
        hashed again. One whose bytes differ is removed. Raises `BlobNotFound`.
        """
        with self.open(digest) as file:
            mark = _mark(os.fstat(file.fileno()))
            if self._sound.get(digest) == mark:
                yield file
                return
        with self.open_verified(digest) as file:
            mark = _mark(os.fstat(file.fileno()))
            yield file
            while file.read(_CHUNK):
                pass
        self._sound[digest] = mark

    def check(self, digest: Digest, *, anew: bool = False) -> None:
        """Raise `BlobDamaged` where the bytes differ, as `reading` does, or `BlobNotFound`.

        With `anew` it is read whatever is known of it.
        """
        if anew:
            self._sound.pop(digest, None)
        with self.reading(digest):
            pass

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(self._name(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        except OSError as error:
            raise store_error(error, self.session.root) from error

    def delete(self, digest: Digest) -> None:
        """Remove the blob whoever uses it; absent is fine."""
        try:
            os.unlink(self._name(digest))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, self.session.root) from error

    def __iter__(self) -> Iterator[Digest]:
        """Digests of all blobs, in no order."""
        for algorithm in os.listdir(self._folder):
            for name in os.listdir(f"{self._folder}/{algorithm}"):
                yield Digest(f"{algorithm}:{name}")

    def place(self, fd: int, path: str, digest: Digest) -> None:
        """Give the finished file at `path`, open as `fd`, the name of `digest`; closes `fd` always.

        On failure the file stays at `path`.
        """
        target = self._name(digest)
        try:
            self.session.hold(digest)
            if self.session.durable:
                os.fdatasync(fd)
            before = self.status(digest)
            try:
                os.rename(path, target)
            except FileNotFoundError:  # the first blob of its algorithm
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(path, target)
            os.fchmod(fd, 0o444)  # not before: a partial file must stay one that can be opened to go on
            if before is not None:  # the same bytes: whoever knows it by its time need not look again
                os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
            self._sound[digest] = _mark(os.fstat(fd))
            if self.session.durable:
                sync_folder(os.path.dirname(target))
        except OSError as error:
            raise store_error(error, self.session.root) from error
        finally:
            os.close(fd)  # last: until it has its name, the lock on a partial file is on this descriptor
