"""Contexts that are kept as layers, and may hold files that would mean something else in one.

A name like ``.wh.NAME`` is a file like any other in a context and a deletion in a layer. There it is
written with one w more (``.wwh.NAME``; such a name itself gets one more in turn), and shown without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from minibuild.context.rows import Row
from minibuild.context.treeview import TreeView
from minibuild.layers.entry import Entry

_PLAIN = re.compile(rb"(?:^|(?<=/))\.(?=w+h\.)")
_VEILED = re.compile(rb"(?:^|(?<=/))\.w(?=w+h\.)")


def veiled(path: bytes) -> bytes:
    """`path` as it is written in a context's layer."""
    return _PLAIN.sub(b".w", path)


def unveiled(path: bytes) -> bytes:
    return _VEILED.sub(b".", path)


class UnveiledView(TreeView):
    """The tree of a context's layer, by the names that its files have."""

    def resolve(self, path: bytes) -> bytes:
        return unveiled(super().resolve(veiled(path)))

    def entry(self, path: bytes) -> Entry | None:
        return super().entry(veiled(path))

    def names(self, path: bytes) -> list[bytes]:
        return [unveiled(name) for name in super().names(veiled(path))]

    def walk(self, path: bytes) -> Iterator[Row]:
        for row in super().walk(veiled(path)):
            yield row._replace(entry=row.entry._replace(path=unveiled(row.entry.path)))
