"""Where each part of a store lies, and whether a folder is a store we can use.

    store.json      what this folder is; written before anything else
    blobs/          sha256/<hex>: as in an OCI image layout, whose format it shares
    partials-v1/    downloads that were cut, one file a digest
    records-v2/     <kind>/<hash of name>
    snapshots-v1/   one folder a name
    caches-v1/      folders for cache mounts; their content is the caller's affair
    locks-v1/       lock files, unlinked by whoever releases them last
    running-v1/     one folder for each open store: unfinished files, workspaces, leases

A part whose format changes gets a new folder name beside the old one; `VERSION` rises only when an older
program would damage what a newer one wrote.
"""

from __future__ import annotations

import os

from minibuild_store.errors import StoreUnusable, store_error

VERSION = 2
MARKER = "store.json"

BLOBS = "blobs"
PARTIALS = "partials-v1"
RECORDS = "records-v2"
SNAPSHOTS = "snapshots-v1"
CACHES = "caches-v1"
LOCKS = "locks-v1"
RUNNING = "running-v1"
GATE = ".gate"
GC = ".gc"

_PARTS = ("blobs/sha256", PARTIALS, RECORDS, SNAPSHOTS, CACHES, LOCKS, RUNNING)
_FORMAT = "minibuild-store"
_MARKER_BYTES = f'{{"format":"{_FORMAT}","version":{VERSION}}}\n'.encode()
_MARKER_TEMP = f".{MARKER}."


def prepare(root: str) -> None:
    """Make `root` a store unless it is one; raises `StoreUnusable` or `StoreFull`.

    A folder that is not empty and has no marker belongs to someone else and is left alone.
    """
    # in this order: another process may be making it
    if os.path.isdir(root) and not _is_open(root):
        raise _not_ours(root, root)
    try:
        if not _has_marker(root):
            _create(root)
        for part in _PARTS:
            if not os.path.isdir(f"{root}/{part}"):
                os.makedirs(f"{root}/{part}", exist_ok=True)
    except OSError as error:
        raise store_error(error, root) from error


def _has_marker(root: str) -> bool:
    try:
        fd = os.open(f"{root}/{MARKER}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise StoreUnusable(root, "it is not a folder") from None
    except PermissionError:
        raise _not_ours(root, f"{root}/{MARKER}") from None
    try:
        if os.fstat(fd).st_uid != os.geteuid():  # or it would be told in the middle of a build
            for folder in (f"{root}/{part}" for part in _PARTS):
                if os.path.isdir(folder) and not _is_open(folder):
                    raise _not_ours(root, folder)
        found = os.read(fd, 65536)
        if found != _MARKER_BYTES and _version(root, found) == 1:  # the usual case needs no JSON parser
            _upgrade(root, fd)
    finally:
        os.close(fd)
    return True


def _is_open(folder: str) -> bool:
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _not_ours(root: str, path: str) -> StoreUnusable:
    """The error for a `path` of the store that this user may not use: mostly, another has made it."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return StoreUnusable(root, "its file system is read-only")
    owner, user = os.stat(path).st_uid, os.geteuid()
    if owner == user:
        return StoreUnusable(root, f"its owner may not read and write {path}; change its mode")
    return StoreUnusable(root, f"it belongs to {_called(owner)}, and {_called(user)} may not write to it")


def _called(user: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def _upgrade(root: str, marker_fd: int) -> None:
    """From format 1. Others who open the store meanwhile wait for the open marker; cut short, it goes on."""
    import fcntl

    from minibuild_store.upgrade import flatten_records

    fcntl.flock(marker_fd, fcntl.LOCK_EX)
    with open(f"{root}/{MARKER}", "rb") as now:
        if now.read() == _MARKER_BYTES:  # who had the lock has done it
            return
    flatten_records(root, f"{root}/{RECORDS}")
    _write_marker(root)


def _version(root: str, found: bytes) -> int:
    """The format that the marker `found` names, if we can use it; raises `StoreUnusable`."""
    import json

    try:
        document = json.loads(found)
        named, version = document["format"], document["version"]
    except (ValueError, TypeError, KeyError):
        raise StoreUnusable(root, f"its {MARKER} is not one of ours; name another folder") from None
    if named != _FORMAT or not isinstance(version, int):
        raise StoreUnusable(root, f"its {MARKER} is not one of ours; name another folder")
    if not 1 <= version <= VERSION:
        age = "newer" if version > VERSION else "older"
        raise StoreUnusable(
            root, f"it has format {version}, made by a {age} program; this one writes format {VERSION}"
        )
    return version


def _create(root: str) -> None:
    if not os.path.isdir(root):
        os.makedirs(os.path.dirname(root) or ".", exist_ok=True)
        try:
            os.mkdir(root, 0o700)
        except FileExistsError:
            if not os.path.isdir(root):
                raise StoreUnusable(root, "it is not a folder") from None
    names = os.listdir(root)
    foreign = [name for name in names if not name.startswith(_MARKER_TEMP) and name != "lost+found"]
    if foreign:
        # another process may have made the store since we looked; it shows its marker before anything else
        if MARKER in foreign and _has_marker(root):
            return
        raise StoreUnusable(root, "it holds other things and is not a store; name an empty folder")
    os.chmod(root, 0o700)
    _write_marker(root)


def _write_marker(root: str) -> None:
    temp = f"{root}/{_MARKER_TEMP}{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(fd, _MARKER_BYTES)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temp, f"{root}/{MARKER}")
    except OSError:
        os.unlink(temp)
        raise
