"""What is in a folder, siblings sorted bytewise, however many there are."""

from __future__ import annotations

import os
import stat
from itertools import chain, islice
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HELD = 25_000  # of the entries of a folder; each is some 250 bytes, and a kilobyte once `lstat` was asked
_by_name = attrgetter("name")


class _Named:
    """An entry of which only the name was kept; what `os.DirEntry` is otherwise."""

    __slots__ = ("name", "path")

    def __init__(self, folder: bytes, name: bytes) -> None:
        self.name = name
        self.path = folder + b"/" + name

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=follow_symlinks)

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return stat.S_ISDIR(self.stat(follow_symlinks=follow_symlinks).st_mode)


Item = os.DirEntry[bytes] | _Named


def listed(folder: bytes, scratch: Callable[[], int]) -> Iterator[Item]:
    """The entries of `folder`, which is read before the first is given.

    `scratch` gives an empty file's descriptor where there are many. No entry is held longer than
    it takes to go on to the next. Raises `OSError`.
    """
    with os.scandir(folder) as scan:
        items = list(islice(scan, _HELD))
        if len(items) == _HELD:
            from minibuild.layers.names import in_order

            names = in_order(map(_by_name, chain(_given_up(items), scan)), scratch)
            return (_Named(folder, name) for name in names)
    items.sort(key=_by_name, reverse=True)
    return _given_up(items)


def _given_up(items: list[os.DirEntry[bytes]]) -> Iterator[os.DirEntry[bytes]]:
    """The items from the last to the first."""
    while items:
        yield items.pop()
