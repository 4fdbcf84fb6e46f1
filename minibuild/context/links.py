"""Following symlinks inside a root, for any tree that can say what a link points to."""

from __future__ import annotations

import os
from collections.abc import Callable

from minibuild.errors import UsageError

_MAX_LINKS = 255


def follow(path: bytes, readlink: Callable[[bytes], bytes | None]) -> bytes:
    """`path` with every link followed; what does not exist stays as written, ``..`` stops at the root.

    `readlink` gives a link's target, or None for anything that is no link. Paths are as in `Entry.path`.
    """
    done: list[bytes] = []
    todo = path.split(b"/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            del done[-1:]
            continue
        target = readlink(b"/".join((*done, part)))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise UsageError(
                f"too many levels of symbolic links: {os.fsdecode(path)}", cure="A link leads back to itself."
            )
        if target.startswith(b"/"):
            done.clear()
        todo.extend(target.split(b"/")[::-1])
    return b"/".join(done)
