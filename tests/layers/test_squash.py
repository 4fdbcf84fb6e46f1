"""Squashed layers do to any base what the layers did one after the other."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from minibuild_store.digest import Digest

from minibuild.layers.compress import Compression
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.merge import MergeLayer, merge_to_tar
from minibuild.layers.scan import index_blob
from minibuild.layers.squash import squash
from minibuild.layers.tarheader import END, header, padding
from minibuild.layers.tree import Tree
from minibuild.layers.whiteout import opaque, whiteout
from minibuild.layers.writer import LayerWriter

SECOND = 10**9


def layer_of(rows: list[tuple[Entry, bytes]]) -> MergeLayer:
    blob = b"".join(header(entry) + data + bytes(padding(len(data))) for entry, data in rows) + END
    return MergeLayer(index_blob(io.BytesIO(blob), None, Digest.of(blob)), partial(io.BytesIO, blob))


@st.composite
def layers(draw: st.DrawFn) -> MergeLayer:
    """A layer with folders, files, links, whiteouts and opaque folders, some parents left out."""
    rows: list[tuple[Entry, bytes]] = []
    files: list[bytes] = []

    def fill(folder: bytes, depth: int) -> None:
        for name in draw(st.sets(st.sampled_from([b"a", b"b", b"c"]))):
            path = folder + b"/" + name if folder else name
            what = draw(st.sampled_from(["folder", "bare", "file", "large", "link", "hard", "gone"]))
            mode = draw(st.sampled_from([0o700, 0o755]))
            time = draw(st.integers(1, 9)) * SECOND
            if what in ("folder", "bare") and depth:
                if what == "folder":
                    rows.append((Entry(path, Kind.DIR, mode, mtime_ns=time), b""))
                    if draw(st.booleans()):
                        rows.append((opaque(path), b""))
                fill(path, depth - 1)
            elif what == "link":
                rows.append((Entry(path, Kind.SYMLINK, 0o777, link=b"a", mtime_ns=time), b""))
            elif what == "hard" and files:
                rows.append((Entry(path, Kind.HARDLINK, 0o644, link=draw(st.sampled_from(files))), b""))
            elif what == "gone":
                rows.append((whiteout(path), b""))
            else:
                data = draw(st.binary(max_size=3)) * (30_000 if what == "large" else 1)
                rows.append((Entry(path, Kind.FILE, mode, 3, 4, len(data), time), data))
                files.append(path)

    fill(b"", 2)
    return layer_of(rows)


def squashed(base: list[MergeLayer], above: list[MergeLayer], spool: Path) -> MergeLayer:
    fd = os.memfd_create("layer")
    with open(fd, "rb") as file, LayerWriter(fd, Compression("uncompressed", None)) as writer:
        squash([one.index for one in base], above, writer, spool)
        done = writer.close()
        file.seek(0)
        blob = file.read()
    return MergeLayer(index_blob(io.BytesIO(blob), None, done.diff_id), partial(io.BytesIO, blob))


def shown(stack: list[MergeLayer]) -> dict[bytes, tuple[object, ...]]:
    """What a root filesystem shows: metadata by path, and which paths are one file."""
    tree = Tree.of(one.index for one in stack)
    found: dict[bytes, tuple[object, ...]] = {}
    names: dict[tuple[int, int], bytes] = {}
    for path, node in tree.walk():
        entry = node.entry._replace(path=b"")
        first = path if entry.kind is Kind.DIR else names.setdefault((node.layer, node.position), path)
        found[path] = (entry, first)
    return found


def content(stack: list[MergeLayer]) -> set[bytes]:
    """The files' contents, in no order."""
    out = io.BytesIO()
    merge_to_tar(stack, out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {
            member.name.encode() + b"=" + body.read()
            for member in tar
            if member.isfile() and (body := tar.extractfile(member)) is not None
        }


@settings(max_examples=300)
@given(st.lists(layers(), max_size=3), st.lists(layers(), min_size=1, max_size=3))
def test_one_layer_shows_what_several_show(base: list[MergeLayer], above: list[MergeLayer]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = squashed(base, above, Path(folder, "spool"))
    assert shown([*base, one]) == shown([*base, *above])
    assert content([*base, one]) == content([*base, *above])


def test_what_was_never_in_the_base_leaves_no_trace(tmp_path: Path) -> None:
    made = layer_of([(Entry(b"a", Kind.FILE, 0o644, size=1), b"x")])
    gone = layer_of([(whiteout(b"a"), b""), (Entry(b"b", Kind.FILE, 0o644, size=1), b"y")])
    one = squashed([], [made, gone], tmp_path / "spool")
    assert one.index.paths == [b"b"]


def test_deletions_of_the_base_are_named_once(tmp_path: Path) -> None:
    base = layer_of([(Entry(b"d", Kind.DIR, 0o700), b""), (Entry(b"d/f", Kind.FILE, 0o644), b"")])
    gone = layer_of([(whiteout(b"d"), b"")])
    one = squashed([base], [gone, layer_of([])], tmp_path / "spool")
    assert one.index.paths == [b".wh.d"]
