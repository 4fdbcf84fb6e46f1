"""Layers drawn at random: folders, links and whiteouts over few names, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.layout import Layout
from minibuild.layers.tarheader import END, header, padding

Layer = list[tuple[Entry, bytes]]

kinds = [Kind.FILE, Kind.DIR, Kind.DIR, Kind.SYMLINK, Kind.HARDLINK, Kind.FIFO, "mark"]
names = st.sampled_from([b"a", b"b", b"c"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
targets = st.sampled_from([b"a", b"b", b"../a", b"/b", b"/a/b", b"..", b"c/./d", b"/", b"../../../c", b"x"])


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from(kinds))
    path = draw(paths)
    number = draw(st.integers(1, 9))
    if kind == "mark":
        parent, _, name = path.rpartition(b"/")
        mark = draw(st.sampled_from([b".wh." + name, b".wh..wh..opq"]))
        return Entry(parent + b"/" + mark if parent else mark, Kind.FILE, 0), b""
    assert isinstance(kind, Kind)
    data = b"%d" % number if kind is Kind.FILE else b""
    link = draw(paths) if kind is Kind.HARDLINK else draw(targets) if kind is Kind.SYMLINK else b""
    mode = 0o777 if kind is Kind.SYMLINK else 0o700 + number
    return Entry(path, kind, mode, 0, 0, len(data), number * 10**9, link), data


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Entries of which each is acceptable after those before."""
    kept: Layer = []
    for row in draw(st.lists(entries(), max_size=8)):
        layout = Layout()
        try:
            for entry, _ in [*kept, row]:
                layout.place(entry)
        except LayerError:
            continue
        kept.append(row)
    return kept


def archive(layer: Layer) -> bytes:
    return b"".join(header(e) + data + bytes(padding(len(data))) for e, data in layer) + END
