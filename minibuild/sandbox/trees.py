"""Which private tree (see `privatetree`) a run may go on with: kept by the layers it is made of."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minibuild.sandbox.protocol import RunRequest

# Device and inode numbers of unpacked layers, lowest first: they stay when a folder is renamed.
_Key = tuple[tuple[int, int], ...]


class Trees:
    """Thread-safe. Until `folder` is set, every run makes a tree of its own and loses it."""

    def __init__(self, remove: Callable[[Path], None]) -> None:
        self.folder: Path | None = None
        self._remove = remove
        self._lock = threading.Lock()
        self._kept: dict[_Key, Path] = {}

    @contextlib.contextmanager
    def used(self, request: RunRequest) -> Iterator[None]:
        """Give the run a tree, nobody else's meanwhile; it is kept if the run did not fail."""
        key = tuple(_identity(lower) for lower in request["lowers"])
        tree, applied = self._take(key)
        if tree is None:
            base = self.folder or Path(request["work"])
            tree = base / f"tree-{os.urandom(6).hex()}"
        request["tree"], request["applied"] = str(tree), applied
        done = False
        try:
            yield
            done = self.folder is not None and os.path.exists(done_mark(request["work"]))
        finally:
            if done:
                with self._lock:
                    self._kept[self._key_after(key, request["upper"])] = tree
            else:
                self._remove(tree)

    def _take(self, key: _Key) -> tuple[Path | None, int]:
        """The tree made of most of the first layers of `key`, and of how many."""
        with self._lock:
            for count in range(len(key), 0, -1):
                tree = self._kept.pop(key[:count], None)
                if tree is not None:
                    return tree, count
        return None, 0

    def stands_for(self, upper: Path, layer: Path) -> None:
        """The tree that ends with `upper` is found under `layer`, unless `upper` itself became that."""
        if not upper.exists():
            return
        old, new = _identity(str(upper)), _identity(str(layer))
        with self._lock:
            for key in [key for key in self._kept if key and key[-1] == old]:
                self._kept[(*key[:-1], new)] = self._kept.pop(key)

    def _key_after(self, key: _Key, upper: str) -> _Key:
        with os.scandir(upper) as entries:
            empty = next(entries, None) is None
        return key if empty else (*key, _identity(upper))


def done_mark(work: str) -> str:
    """The file that a run makes when its changes have been collected and its tree can be used again."""
    return f"{work}/done"


def _identity(folder: str) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino
