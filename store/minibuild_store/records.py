"""Small named values, replaced as a whole.

A file is `mbr1`, the lengths of name and data, a checksum over both, the name, the data. A file that does not
check is absent: a record is at worst forgotten, never wrong.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from minibuild_store.errors import store_error
from minibuild_store.files import sync_folder, unlink_quietly, write_all
from minibuild_store.session import Session
from minibuild_store.shorthash import sha256
from minibuild_store.tuples import NamedTuple

_HEAD = struct.Struct("<4sIQ16s")
_MAGIC = b"mbr1"
_SMALL = 1 << 16


class RecordInfo(NamedTuple):
    """A record without its data: `size` in bytes on disk, `used_ns` the time of the last put or touch."""

    name: str
    size: int
    used_ns: int


class Records:
    """The records of one kind. Names are any text; they are hashed, so they may hold anything."""

    def __init__(self, folder: str, session: Session) -> None:
        self._folder = folder
        self._session = session

    def _path(self, name: str) -> str:
        return record_path(self._folder, name)

    def get(self, name: str) -> bytes | None:
        """The data last put under `name`; None if there is none or it is damaged."""
        fd = self._open(name)
        if fd is None:
            return None
        encoded = name.encode("utf-8", "surrogatepass")
        length = _HEAD.size + len(encoded)
        try:
            # in two reads: nothing large is copied
            head, data = os.read(fd, length), os.read(fd, max(os.fstat(fd).st_size - length, 0))
        finally:
            os.close(fd)
        return data if _whole(head, data) == encoded else None

    def mark(self, name: str) -> bytes | None:
        """What is another whenever the data is, read without it; None for no record. Nothing is checked."""
        fd = self._open(name)
        if fd is None:
            return None
        try:
            return os.read(fd, _HEAD.size)
        finally:
            os.close(fd)

    def _open(self, name: str) -> int | None:
        try:
            return os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def put(self, name: str, data: bytes | bytearray) -> None:
        """Set the data of `name`, at once and as a whole; raises `StoreFull`."""
        target = self._path(name)
        try:
            fd, path = self._session.new_file()
            try:
                try:
                    head = _head(name.encode("utf-8", "surrogatepass"), data)
                    if len(data) < _SMALL:
                        write_all(fd, head + data)
                    else:
                        write_all(fd, head)
                        write_all(fd, data)
                    if self._session.durable:
                        os.fdatasync(fd)
                finally:
                    os.close(fd)
                self._replace(path, target)
            except OSError:
                unlink_quietly(path)
                raise
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def _replace(self, path: str, target: str) -> None:
        with self._session.gate:  # gc looks at the file and deletes it with the gate shut
            try:
                os.rename(path, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(path, target)
        if self._session.durable:
            sync_folder(os.path.dirname(target))

    def touch(self, name: str) -> None:
        """Note that `name` was used now; absent is fine."""
        try:
            os.utime(self._path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def delete(self, name: str) -> None:
        """Remove the record; absent is fine."""
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, self._session.root) from error

    def used(self) -> bool:
        """Whether a record of this kind was ever put here."""
        return os.path.isdir(self._folder)

    def names(self) -> Iterator[str]:
        """Names of all whole records, in no order; reads each file."""
        return (info.name for info in self.entries())

    def entries(self) -> Iterator[RecordInfo]:
        """All whole records, in no order; those put or deleted meanwhile may be among them or not."""
        for path in record_files(self._folder):
            try:
                with open(path, "rb") as file:
                    status = os.fstat(file.fileno())
                    content = file.read()
            except FileNotFoundError:
                continue
            name = _name(content)
            if name is not None:
                yield RecordInfo(name, status.st_size, status.st_mtime_ns)


def record_files(folder: str) -> Iterator[str]:
    """Paths of all record files of one kind."""
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        return
    with found:
        for entry in found:
            yield entry.path


def record_path(folder: str, name: str) -> str:
    """The file of record `name` of the kind in `folder`."""
    key = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{folder}/{key[:40]}"


def _head(name: bytes, data: bytes | bytearray) -> bytes:
    """What comes before the data."""
    return _HEAD.pack(_MAGIC, len(name), len(data), _check(name, data)) + name


def _check(name: bytes, data: bytes | bytearray | memoryview) -> bytes:
    return sha256(name, data).digest()[:16]


def _whole(head: bytes, data: bytes | memoryview) -> bytes | None:
    """The name of a record, if it is what was put."""
    if len(head) < _HEAD.size:
        return None
    magic, name_length, data_length, check = _HEAD.unpack_from(head)
    name = head[_HEAD.size :]
    if magic != _MAGIC or (len(name), len(data)) != (name_length, data_length) or _check(name, data) != check:
        return None
    return name


def _name(content: bytes) -> str | None:
    if len(content) < _HEAD.size:
        return None
    end = _HEAD.size + _HEAD.unpack_from(content)[1]
    name = _whole(content[:end], memoryview(content)[end:])
    return None if name is None else name.decode("utf-8", "surrogatepass")
