"""Entries that have their place to a layer of the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from minibuild_store.blobs import BlobInfo

from minibuild.engine.filesystem import Layer
from minibuild.engine.session import Session
from minibuild.engine.sources import Writing
from minibuild.layers.entry import Entry, Kind
from minibuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from minibuild.context.placed import Placed
    from minibuild.engine.waiting import Waiting
    from minibuild.layers.writer import LayerWriter

_FILE = Kind.FILE  # a member read from its class is slow
_LITTLE = 4 << 20  # bytes
_ENTRY = 8 << 10  # bytes that take as long as an entry itself


def write_layer(
    session: Session,
    placed: Iterable[Placed],
    writing: Writing | None = None,
    waiting: Waiting | None = None,
) -> Layer:
    """Write `placed` to a blob of the store and keep its index; one entry is held at a time.

    `writing` gives the contents that are neither inline nor in files of our own, `waiting` those that wait.
    """
    if session.layers.stand_ins is not None:
        return session.layers.stand_ins.layer(list(placed))
    from minibuild.layers.writer import LayerWriter

    clamp = None if session.epoch is None else session.epoch * 1_000_000_000
    with session.working(), ExitStack() as stack:
        blob = stack.enter_context(session.store.blobs.writer())
        writer = stack.enter_context(LayerWriter(blob.fd, clamp_mtime_ns=clamp))
        with writing or nullcontext():
            _add_all(session, writer, placed, writing, waiting)
        result = writer.close()
        blob.commit_hashed(BlobInfo(result.digest, result.size))
    session.layers.keep_index(result.diff_id, result.index)
    layer = Layer(result.diff_id, Descriptor(result.media_type, result.digest, result.size))
    session.layers.note_written(layer)
    return layer


def _add_all(
    session: Session,
    writer: LayerWriter,
    placed: Iterable[Placed],
    writing: Writing | None,
    waiting: Waiting | None,
) -> None:
    check: Callable[[], None] = session.check
    size, little = 0, True
    for number, item in enumerate(placed):
        if not number % 1000:
            check()
        if little:
            size += item.entry.size + _ENTRY
            if size > _LITTLE:
                little = False
                session.lasting()
        if item.entry.kind is not _FILE:
            writer.add(item.entry)
        elif isinstance(item.data, bytes):
            writer.add(item.entry, item.data)
        elif item.data is not None:
            assert waiting is not None
            waiting.write(writer, item.entry, item.data)
        elif item.spooled:
            _write_file(writer.add, item)
        else:
            assert writing is not None
            writing.write(writer, item)


def _write_file(add: Callable[[Entry, int], None], item: Placed) -> None:
    fd = os.open(item.where, os.O_RDONLY | os.O_CLOEXEC)
    try:
        add(item.entry, fd)
    finally:
        os.close(fd)
