"""Steps on files that every part of the store shares."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

Remove = Callable[[Path], None]
"""Deletes a folder and all it holds; raises OSError where it cannot."""


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to `fd`; a short write is how a disk that fills begins."""
    done = os.write(fd, data)
    if done == len(data) and not isinstance(data, memoryview):
        return
    rest = memoryview(data).cast("B")[done:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_folder(path: str) -> None:
    """Make the names in folder `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unlink_quietly(path: str) -> None:
    """Remove a file that may be gone, or that may not be ours to remove."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def remove_tree(path: Path) -> None:
    """Delete a folder, also one whose subfolders deny their owner; raises OSError.

    Files of other users' ids (subuids) are out of reach here; the sandbox's remove can delete those.
    """
    import shutil

    try:
        shutil.rmtree(path)
    except PermissionError:
        os.chmod(path, 0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                if not os.path.islink(f"{folder}/{name}"):
                    os.chmod(f"{folder}/{name}", 0o700)
        shutil.rmtree(path)


def tree_size(path: str) -> int:
    """Bytes of the files under `path`; folders that cannot be read count as empty."""
    total = 0
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
