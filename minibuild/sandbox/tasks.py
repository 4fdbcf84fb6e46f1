"""The jobs that need the owner's rights over ids but no sandbox: unpack, diff, remove, make a folder.

They run in a worker, a child of the holder, with the host's file system in view and mounts of their own.
"""

from __future__ import annotations

import io
import os
import stat
from typing import Any

from minibuild_store.digest import Digest

from minibuild.layers.compress import Compression
from minibuild.layers.diff import diff as diff_upper
from minibuild.layers.unpack import unpack as unpack_layer
from minibuild.layers.writer import LayerWriter
from minibuild.sandbox import chroot, mounts, overlay, placing, singleid, syscalls


def run(name: str, arguments: dict[str, Any], fds: list[int]) -> tuple[Any, bytes | bytearray]:
    """Do the task `name`; the answer is a value that marshal knows, and large bytes beside it."""
    if name in _LARGE_TASKS:
        return _LARGE_TASKS[name](arguments, fds)
    return _TASKS[name](arguments, fds), b""


def prepare() -> None:
    """Load the compressors, which the layer code would when it first needs them."""
    import zstandard  # noqa: F401
    from isal import igzip, isal_zlib  # noqa: F401


def _unpack(arguments: dict[str, Any], fds: list[int]) -> tuple[None, bytearray]:
    with io.FileIO(fds[0], closefd=False) as raw:
        index = unpack_layer(
            raw,
            arguments["media_type"],
            arguments["dest"],
            diff_id=Digest(arguments["diff_id"]),
            skip_devices=arguments["skip_devices"],
            record_owners=singleid.active(),
        )
    return None, index


def _diff(arguments: dict[str, Any], fds: list[int]) -> tuple[tuple[Any, ...], bytes | bytearray]:
    lowers: tuple[str, ...] = arguments["lowers"]
    lower = lowers[0] if lowers else None
    tree = -1
    if chroot.active():
        lower = None  # the upper folder was filled with nothing but changes
    elif len(lowers) > 1:
        # the work folder is ours and unused now: it may be covered for a moment
        work: str = arguments["work"]
        tree = overlay.mount(lowers, "", "", syscalls.ATTR_RDONLY, "the layers below", work)
        lower = f"/proc/self/fd/{tree}/."
    compression = Compression(*arguments["compression"])
    writer = LayerWriter(fds[0], compression, clamp_mtime_ns=arguments["clamp_mtime_ns"])
    owner = None
    if singleid.active():
        owner = singleid.true_owners(arguments["upper"], lowers, lower).owner
    try:
        diff_upper(arguments["upper"], lower, writer, owner=owner)
    finally:
        if tree >= 0:
            os.close(tree)
    *parts, index = writer.close()
    return tuple(str(part) if isinstance(part, str) else part for part in parts), index


def _trust(arguments: dict[str, Any], _fds: list[int]) -> tuple[bytes, bool]:
    """The layer of `trust.add` over `lowers`, in the folder `folder`; `place` may be covered for a moment."""
    if chroot.active():
        raise placing.Refused("authorities for RUN alone (--ca-bundle) need mounts")
    from pathlib import Path  # which takes a fifth as long to load as all of a worker

    from minibuild.sandbox import trust

    lowers: tuple[str, ...] = arguments["lowers"]
    root_fd = overlay.mount(lowers, "", "", syscalls.ATTR_RDONLY, "the layers below", arguments["place"])
    pem: bytes = arguments["pem"]
    try:
        found = trust.add(root_fd, Path(arguments["folder"]), pem, arguments["java_home"])
    finally:
        os.close(root_fd)
    return (found or b"") + trust.block(pem), bool(os.listdir(arguments["folder"]))


def _scrub(arguments: dict[str, Any], _fds: list[int]) -> tuple[str, ...]:
    from pathlib import Path

    from minibuild.sandbox import trust

    return tuple(trust.scrub(Path(arguments["upper"])))


def _makedirs(arguments: dict[str, Any], _fds: list[int]) -> None:
    mounts.make_folder(arguments["path"], arguments["mode"], arguments["uid"], arguments["gid"])


def _place(arguments: dict[str, Any], _fds: list[int]) -> None:
    source: str = arguments["source"]
    singleid.give(source, arguments["uid"], arguments["gid"])
    os.chmod(source, arguments["mode"])
    os.rename(source, arguments["target"])


def _dedup(arguments: dict[str, Any], _fds: list[int]) -> tuple[int, ...]:
    from minibuild.layers.dedup import dedup

    return tuple(dedup(arguments["folders"], dry_run=arguments["dry_run"]))


def _remove(arguments: dict[str, Any], _fds: list[int]) -> None:
    path: str = arguments["path"]
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        os.chdir(parent or "/")
        if not stat.S_ISDIR(os.lstat(name).st_mode):
            os.unlink(name)
            return
    except FileNotFoundError:
        return
    _remove_tree(name)


def _remove_tree(name: str) -> None:
    """Remove a folder of any depth: one descriptor at a time, the current folder as the stack."""
    stack: list[tuple[str, list[str]]] = []
    folders = _enter(name)
    stack.append((name, folders))
    while stack:
        name, folders = stack[-1]
        if folders:
            child = folders.pop()
            stack.append((child, _enter(child)))
            continue
        stack.pop()
        os.chdir("..")
        os.rmdir(name)


def _enter(name: str) -> list[str]:
    """Step into the folder `name`, unlink all in it that is no folder, and name the folders."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)
    folders = []
    with os.scandir(".") as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        else:
            os.unlink(entry.name)
    return folders


_LARGE_TASKS = {"unpack": _unpack, "diff": _diff}
_TASKS = {
    "makedirs": _makedirs,
    "place": _place,
    "remove": _remove,
    "dedup": _dedup,
    "trust": _trust,
    "scrub": _scrub,
}
