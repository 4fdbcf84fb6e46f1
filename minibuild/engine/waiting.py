"""Contents that wait for their turn to be written: little ones in one file, large ones in their own."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from minibuild_store.store import Store

from minibuild.layers.entry import Entry
from minibuild.layers.scan import save
from minibuild.layers.tarblocks import Body
from minibuild.layers.writer import LayerWriter

_LITTLE = 1 << 16  # bytes of a file that is held for the moment
_TOGETHER = 1 << 18  # bytes that are written together
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Waiting:
    """Keeps contents on the store's filesystem as long as `stack`; nothing is made before there is one."""

    def __init__(self, store: Store, stack: ExitStack) -> None:
        self._store = store
        self._stack = stack
        self._scratch = -1
        self._end = 0
        self._coming = bytearray()  # is written next
        self._folder: Path | None = None
        self._large = 0

    def keep(self, body: Body) -> int:
        """Read all of a content; where it is now, from 0."""
        if body.size > _LITTLE:
            return self._keep_large(body)
        if self._scratch < 0:
            self._scratch = self._store.scratch()
            self._stack.callback(os.close, self._scratch)
        place = self._end + len(self._coming)
        self._coming += body.read()
        if len(self._coming) > _TOGETHER:
            self._flush()
        return place

    def _flush(self) -> None:
        while self._coming:
            written = os.pwrite(self._scratch, self._coming, self._end)
            self._end += written
            del self._coming[:written]

    def _keep_large(self, body: Body) -> int:
        if self._folder is None:
            self._folder = self._stack.enter_context(self._store.workspace())
        place = self._large
        self._large += 1
        fd = os.open(self._folder / str(place), _CREATE, 0o600)
        try:
            save(body, fd)
        finally:
            os.close(fd)
        return place

    def write(self, writer: LayerWriter, entry: Entry, place: int, *, again: bool = False) -> None:
        """Add `entry` with the content at `place`, which is gone then unless it is wanted `again`."""
        if entry.size <= _LITTLE:
            if place + entry.size > self._end:
                self._flush()
            writer.add(entry, os.pread(self._scratch, entry.size, place) if entry.size else b"")
            return
        assert self._folder is not None
        path = self._folder / str(place)
        writer.add(entry, path)
        if not again:
            path.unlink()
