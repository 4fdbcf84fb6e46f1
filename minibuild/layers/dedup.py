"""Equal files of several unpacked layers made to share their blocks, as far as the file system can.

Of files of one size those are read that lie in different places, and of those with one hash the kernel
compares the bytes. A second run so reads next to nothing. Memory is bounded: sizes are gone through from the
largest down, in runs of so many files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar

import xxhash
from minibuild_store.extents import BLOCK, blocks, share

from minibuild.values import NamedTuple

_Answer = TypeVar("_Answer")
_FILES = 100_000  # held at once
_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Dedup(NamedTuple):
    """`files` and `bytes` were looked at; `shared_files` and `shared_bytes` use others' blocks now, and
    `before_bytes` did already. `failed` are files that the kernel would not share.
    """

    files: int = 0
    bytes: int = 0
    shared_files: int = 0
    shared_bytes: int = 0
    before_bytes: int = 0
    failed: int = 0


def dedup(folders: Sequence[str], *, dry_run: bool = False) -> Dedup:
    """Share what is equal in `folders`, which do not change; with `dry_run` only say how much that is."""
    sizes: dict[int, int] = {}
    total = Dedup()
    for _, size in _files(folders):
        sizes[size] = sizes.get(size, 0) + 1
        total = total._replace(files=total.files + 1, bytes=total.bytes + size)
    for wanted in _runs({size: count for size, count in sizes.items() if count > 1}):
        found: dict[int, list[bytes]] = {}
        for path, size in _files(folders, wanted):
            found.setdefault(size, []).append(path)
        for size in sorted(found, reverse=True):
            total = _group(found.pop(size), size, total, dry_run)
    return total


def _runs(sizes: dict[int, int]) -> Iterator[Collection[int]]:
    """The sizes, the largest first, in sets of no more than `_FILES` files where that can be."""
    run: set[int] = set()
    count = 0
    for size in sorted(sizes, reverse=True):
        if run and count + sizes[size] > _FILES:
            yield run
            run, count = set(), 0
        run.add(size)
        count += sizes[size]
    if run:
        yield run


def _files(folders: Sequence[str], wanted: Collection[int] | None = None) -> Iterator[tuple[bytes, int]]:
    """Path and size of each file that is worth sharing, of the names of one file the first."""
    for root in folders:
        linked: set[int] = set()
        stack = [os.fsencode(root)]
        while stack:
            try:
                with os.scandir(stack.pop()) as entries:
                    found = list(entries)
            except FileNotFoundError:
                continue
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISREG(info.st_mode) or info.st_size < BLOCK:
                    continue
                if wanted is not None and info.st_size not in wanted:
                    continue
                if info.st_nlink > 1:
                    if info.st_ino in linked:
                        continue
                    linked.add(info.st_ino)
                yield entry.path, info.st_size


def _group(paths: list[bytes], size: int, total: Dedup, dry_run: bool) -> Dedup:
    """Share among files of one size."""
    places: dict[tuple[tuple[int, int, int], ...], list[bytes]] = {}
    for path in paths:
        place = _asked(path, blocks)
        if place is not None:
            places.setdefault(place, []).append(path)
    before = sum(len(same) - 1 for same in places.values()) * size
    total = total._replace(before_bytes=total.before_bytes + before)
    if len(places) < 2:
        return total
    equal: dict[bytes, list[list[bytes]]] = {}
    for same in places.values():
        digest = _asked(same[0], _hash)
        if digest is not None:
            equal.setdefault(digest, []).append(same)
    for several in equal.values():
        several.sort(key=len, reverse=True)
        first, others = several[0][0], [path for same in several[1:] for path in same]
        total = _share_all(first, others, size, total, dry_run)
    return total


def _share_all(first: bytes, others: Sequence[bytes], size: int, total: Dedup, dry_run: bool) -> Dedup:
    files, count, failed = 0, 0, 0
    with ExitStack() as stack:
        source = -1
        for path in others:
            done = size
            if not dry_run:
                try:
                    if source < 0:
                        source = os.open(first, _OPEN)
                        stack.callback(os.close, source)
                    target = os.open(path, _OPEN)
                    try:
                        done = share(source, target, size)
                    finally:
                        os.close(target)
                except OSError:
                    failed += 1
                    continue
            files += done == size
            count += done
    return total._replace(
        shared_files=total.shared_files + files,
        shared_bytes=total.shared_bytes + count,
        failed=total.failed + failed,
    )


def _asked(path: bytes, ask: Callable[[int], _Answer]) -> _Answer | None:
    """What `ask` says of the open file; None where it cannot be read."""
    with suppress(OSError):
        fd = os.open(path, _OPEN)
        try:
            return ask(fd)
        finally:
            os.close(fd)
    return None


def _hash(fd: int) -> bytes:
    state = xxhash.xxh3_128()
    while chunk := os.read(fd, _CHUNK):
        state.update(chunk)
    return state.digest()
