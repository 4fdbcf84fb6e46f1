"""Writing an output so that it appears whole or not at all, and saying plainly why it could not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minibuild_store import stopping
from minibuild_store.errors import BlobDamaged
from minibuild_store.files import write_all

from minibuild.errors import OutputError
from minibuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from minibuild.exporters.pipe import Pipe
    from minibuild.exporters.spec import OutputSpec

_CHUNK = 1 << 20
_KERNEL_COPY = 16 << 20  # bytes a single copy call may move, at the end of which it can be stopped
_UNSUPPORTED = (
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ESPIPE,
    errno.EPERM,
    errno.EBADF,
)
TEMPORARY = ".minibuild-"
"""Names that begin so are ours and unfinished: whoever finds one with no writer may remove it."""

Destination = Path | BinaryIO


def label(dest: Destination) -> str:
    """The destination as it is shown: a path, or ``-`` for a stream."""
    return str(dest) if isinstance(dest, Path) else "-"


def temporary_name() -> str:
    return f"{TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}"


@contextmanager
def reporting(dest: Destination) -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError` about `dest`."""
    try:
        yield
    except OSError as error:
        raise failure(dest, error) from error


def failure(dest: Destination, error: OSError) -> OutputError:
    """The `OutputError` that says why `dest` could not be written and what to do."""
    where = "standard output" if label(dest) == "-" else str(dest)
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"cannot write {where}: {_reason(dest, error)}",
            cure="Free some space, or name another place with dest=; nothing unfinished was left there.",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"cannot write {where}: {_reason(dest, error)}",
            cure="Name a place that you may write to with dest=, or change its permissions.",
        )
    if code == errno.EPIPE:
        return OutputError(
            f"cannot write {where}: the program that was reading it has ended",
            cure="Look at what the other end of the pipe said.",
        )
    if code in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
        return OutputError(
            f"cannot write {where}: {_reason(dest, error)}",
            cure="Name another place with dest=, or move what is there out of the way.",
        )
    return OutputError(f"cannot write {where}: {_reason(dest, error)}", cure="Name another place with dest=.")


def _reason(dest: Destination, error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    name = error.filename
    if not isinstance(name, (str, Path)) or str(name) == label(dest) or TEMPORARY in str(name):
        return text
    return f"{name}: {text}"


class Writer:
    """Bytes and whole files to a file descriptor, to a pipe, or to a stream that is neither.

    What `stopping.check` raises ends a write, also one that waits for the reader of a pipe.
    """

    def __init__(self, fd: int | None, stream: BinaryIO | None = None, pipe: Pipe | None = None) -> None:
        self._fd = fd
        self._stream = stream
        self._pipe = pipe

    def write(self, data: bytes) -> None:
        if self._pipe is not None:
            self._pipe.write(data)
            return
        stopping.check()
        if self._fd is None:
            assert self._stream is not None
            self._stream.write(data)
            return
        write_all(self._fd, data)

    def copy(self, source: Path, descriptor: Descriptor) -> None:
        """All of a blob's file; raises `BlobDamaged` where its size is not the descriptor's."""
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            check_size(descriptor, os.fstat(fd).st_size)
            left = descriptor.size
            if self._pipe is not None and not self._pipe.blocks:
                left -= copy_in_kernel(fd, self._pipe.fd, left, self._pipe.ready)
            elif self._pipe is None and self._fd is not None:
                left -= copy_in_kernel(fd, self._fd, left)
            while left:
                chunk = os.read(fd, min(_CHUNK, left))
                if not chunk:
                    raise BlobDamaged(descriptor.digest, got=descriptor.size - left, want=descriptor.size)
                self.write(chunk)
                left -= len(chunk)
        finally:
            os.close(fd)


def check_size(descriptor: Descriptor, size: int) -> None:
    """Raise `BlobDamaged` unless a blob has the size that names it."""
    if size != descriptor.size:
        raise BlobDamaged(descriptor.digest, got=size, want=descriptor.size)


def copy_in_kernel(source: int, dest: int, size: int, ready: Callable[[], None] = stopping.check) -> int:
    """Move up to `size` bytes between two descriptors without reading them; how many were moved.

    `ready` is called before each piece, and waits for a `dest` that does not block. Fewer than `size` means
    that the kernel cannot go on between these two: copy the rest by hand.
    """
    moved = 0
    for call in (_copy_range, os.sendfile):
        try:
            while moved < size:
                ready()
                try:
                    count = call(dest, source, None, min(size - moved, _KERNEL_COPY))
                except BlockingIOError:
                    continue
                if not count:
                    return moved
                moved += count
            return moved
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    return moved


def _copy_range(dest: int, source: int, offset: None, count: int) -> int:
    return os.copy_file_range(source, dest, count)


@contextmanager
def output_file(dest: Destination) -> Iterator[Writer]:
    """A file that takes its name when the block ends well, and leaves nothing behind otherwise.

    A stream, and a path that is a pipe or a device, is written straight through. Missing parent
    folders are made. Raises `OutputError`.
    """
    if not isinstance(dest, Path):
        with _stream(dest) as writer:
            yield writer
        return
    with reporting(dest):
        path = Path(os.path.realpath(dest))  # a link stays a link; what it points to is replaced
        try:
            mode = dest.stat().st_mode
        except FileNotFoundError:
            mode = 0
    if stat.S_ISDIR(mode):
        raise OutputError(
            f"cannot write {dest}: it is a folder and the output is one file",
            cure="Name a file with dest=, or write a folder with tar=false.",
        )
    if mode and not stat.S_ISREG(mode):
        with reporting(dest):
            # only the kernel can follow /dev/stdout
            fd = _open_fifo(dest) if stat.S_ISFIFO(mode) else os.open(dest, os.O_WRONLY | os.O_CLOEXEC)
            try:
                with _straight(fd) as writer:
                    yield writer
            finally:
                os.close(fd)
        return
    with _replacing(dest, path, mode) as writer:
        yield writer


@contextmanager
def _stream(stream: BinaryIO) -> Iterator[Writer]:
    with reporting(stream):
        stream.flush()
        try:
            fd: int | None = stream.fileno()
        except (OSError, AttributeError):  # a stream in memory
            fd = None
        if fd is None:
            yield Writer(None, stream)
        else:
            with _straight(fd) as writer:
                yield writer
        stream.flush()


def _open_fifo(dest: Path) -> int:
    from minibuild.exporters.pipe import open_fifo

    return open_fifo(dest)


@contextmanager
def _straight(fd: int) -> Iterator[Writer]:
    """A writer to what is there already, whatever it is."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield Writer(fd)
        return
    from minibuild.exporters.pipe import Pipe

    with closing(Pipe(fd)) as pipe:
        yield Writer(fd, pipe=pipe)


@contextmanager
def _replacing(dest: Path, path: Path, mode: int) -> Iterator[Writer]:
    temporary = path.with_name(temporary_name())
    with reporting(dest):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(temporary, path, 0o666) as fd:
            if mode:
                os.fchmod(fd, stat.S_IMODE(mode))
            yield Writer(fd)


@contextmanager
def replacing(temporary: Path | str, path: Path | str, mode: int) -> Iterator[int]:
    """A new file that becomes `path` when the block ends well, and is removed when not."""
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def check_outputs(outputs: tuple[OutputSpec, ...]) -> None:
    """Refuse outputs that cannot be written, before anything is built; raises `OutputError`."""
    for spec in outputs:
        if not spec.dest or spec.dest == "-":
            continue
        dest = Path(spec.dest).absolute()
        folder = spec.kind == "local" or not spec.tar
        if dest.is_dir() and not folder:
            raise OutputError(
                f"cannot write {spec.dest}: it is a folder and the output is one file",
                cure="Name a file with dest=, or write a folder with tar=false.",
            )
        if folder and dest.exists() and not dest.is_dir():
            raise OutputError(
                f"cannot write {spec.dest}: it is a file and the output is a folder",
                cure="Name a folder with dest=, or move the file out of the way.",
            )
        parent = dest.parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise OutputError(
                f"cannot write {spec.dest}: {parent} is not a folder", cure="Name another dest=."
            )
        place = dest if dest.exists() else parent
        if not os.access(place, os.W_OK):
            raise OutputError(
                f"cannot write {spec.dest}: no permission to write to {place}",
                cure="Name another dest=, or change its mode.",
            )
