"""Every error of the store.

StoreError
├── InvalidDigest      the text is not a digest
├── BlobNotFound       no blob of that digest is here
├── BlobDamaged        bytes or size differ from what the digest promises
├── StoreFull          the disk or the quota is full
├── StoreBusy          a lock was not had in the time given
└── StoreUnusable      the folder is not a store, is of another format, or cannot be written
"""

from __future__ import annotations

import errno


class StoreError(Exception):
    """Base of all errors raised by `minibuild_store`."""


class InvalidDigest(StoreError):
    """The text is not a digest."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a digest: want sha256:<64 hex digits>")
        self.text = text


class BlobNotFound(StoreError):
    """No blob of that digest is here."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class BlobDamaged(StoreError):
    """What was read is not what was promised; `got` and `want` are digests or sizes in bytes."""

    def __init__(self, digest: str, *, got: str | int, want: str | int) -> None:
        super().__init__(f"blob {digest} is damaged: got {got}, want {want}")
        self.digest = digest
        self.got = got
        self.want = want


class StoreFull(StoreError):
    """The disk or the quota is full."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no space left for the store at {path}: free some or name another place with MINIBUILD_ROOT"
        )
        self.path = path


class StoreBusy(StoreError):
    """A lock was not had in the time given."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process holds {name}")
        self.name = name


class StoreUnusable(StoreError):
    """The folder is not a store, is of another format, or cannot be written."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot use {path} as a store: {reason}")
        self.path = path
        self.reason = reason


def store_error(error: OSError, path: str) -> StoreError:
    """What an operating system error under the store at `path` means to its user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(path)
    where = f" ({error.filename})" if error.filename else ""
    return StoreUnusable(path, f"{error.strerror or error}{where}")
