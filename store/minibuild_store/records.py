"""Small named values, replaced as a whole.

A file is `mbr1`, the lengths of name and data, a checksum over both, the name, the data. A file that does not
check is absent: a record is at worst forgotten, never wrong.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from minibuild_store.errors import store_error
from minibuild_store.files import sync_folder, unlink_quietly, write_all
from minibuild_store.session import Session

_HEAD = struct.Struct("<4sIQ16s")
_MAGIC = b"mbr1"


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
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error(error, self._session.root) from error
        try:
            content = os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        return _unpack(content, name)

    def put(self, name: str, data: bytes) -> None:
        """Set the data of `name`, at once and as a whole; raises `StoreFull`."""
        target = self._path(name)
        try:
            fd, path = self._session.new_file()
            try:
                try:
                    write_all(fd, _pack(name, data))
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
        groups = os.listdir(folder)
    except FileNotFoundError:
        return
    for group in groups:
        for name in os.listdir(f"{folder}/{group}"):
            yield f"{folder}/{group}/{name}"


def record_path(folder: str, name: str) -> str:
    """The file of record `name` of the kind in `folder`."""
    key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{folder}/{key[:2]}/{key[2:40]}"


def _pack(name: str, data: bytes) -> bytes:
    encoded = name.encode("utf-8", "surrogatepass")
    check = hashlib.sha256(encoded + data).digest()[:16]
    return _HEAD.pack(_MAGIC, len(encoded), len(data), check) + encoded + data


def _split(content: bytes) -> tuple[bytes, bytes] | None:
    if len(content) < _HEAD.size:
        return None
    magic, name_length, data_length, check = _HEAD.unpack_from(content)
    if magic != _MAGIC or len(content) != _HEAD.size + name_length + data_length:
        return None
    if hashlib.sha256(memoryview(content)[_HEAD.size :]).digest()[:16] != check:
        return None
    start = _HEAD.size + name_length
    return content[_HEAD.size : start], content[start:]


def _unpack(content: bytes, name: str) -> bytes | None:
    parts = _split(content)
    return parts[1] if parts and parts[0] == name.encode("utf-8", "surrogatepass") else None


def _name(content: bytes) -> str | None:
    parts = _split(content)
    return parts[0].decode("utf-8", "surrogatepass") if parts else None
