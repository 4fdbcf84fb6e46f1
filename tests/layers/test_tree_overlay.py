"""Three ways to see a stack of layers must agree: the tree of their indexes, the kernel's overlay of
their unpacked folders, and a plain model that is written down here a second time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from minibuild_store.digest import Digest

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.merge import MergeLayer, merge_to_folder, merge_to_tar
from minibuild.layers.scan import digests, extract, index_blob
from minibuild.layers.tree import Tree
from tests.layers.stacks import Layer, archive, layers

# -- the model: folders are dicts, all else is a list (an object whose identity is the inode)


class Folder(dict[bytes, Any]):
    meta: Entry | None = None
    opaque = False
    fresh = False  # opaque, and nothing to do with the folder below


class Hidden:
    """A whiteout."""


def model_of(layer: Layer) -> Folder:
    root = Folder()
    whited: dict[tuple[int, bytes], Folder] = {}  # held here: the id of one that is gone may be another's
    for entry, data in layer:
        *parents, name = entry.path.split(b"/")
        folder = enter(root, parents)
        if name == b".wh..wh..opq":
            folder.opaque = True
        elif name.startswith(b".wh."):
            whited[id(folder), name[4:]] = folder
            here = folder.setdefault(name[4:], Hidden())
            if isinstance(here, Folder):
                here.opaque = here.fresh = True
        elif entry.kind is Kind.DIR:
            here = folder.get(name)
            if not isinstance(here, Folder):
                here = folder[name] = Folder()
                here.opaque = here.fresh = (id(folder), name) in whited
            here.meta = entry
        elif entry.kind is Kind.HARDLINK:
            *parents, last = entry.link.split(b"/")
            folder[name] = enter(root, parents)[last]
        else:
            folder[name] = [entry, data]
    return root


def enter(root: Folder, parts: list[bytes]) -> Folder:
    at: list[bytes] = []
    parts = parts[::-1]
    while parts:
        part = parts.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            at = at[:-1]
            continue
        here: Any = root
        for step in [*at, part]:
            here = here.get(step) if isinstance(here, Folder) else None
        if isinstance(here, list) and here[0].kind is Kind.SYMLINK:
            at = [] if here[0].link.startswith(b"/") else at
            parts += here[0].link.split(b"/")[::-1]
        else:
            at = [*at, part]
    folder = root
    for step in at:
        below = folder.get(step)
        if not isinstance(below, Folder):
            assert below is None or isinstance(below, Hidden)
            folder[step] = Folder()
            folder[step].opaque = folder[step].fresh = below is not None
        folder = folder[step]
    return folder


def lay_over(lower: Folder, upper: Folder) -> Folder:
    merged = Folder()
    merged.meta = upper.meta or (None if upper.fresh else lower.meta)
    if not upper.opaque:
        merged.update(lower)
    for name, item in upper.items():
        below = merged.pop(name, None)
        if isinstance(item, Folder):
            merged[name] = lay_over(below if isinstance(below, Folder) else Folder(), item)
        elif not isinstance(item, Hidden):
            merged[name] = item
    return merged


def seen_in_model(layer_list: list[Layer]) -> dict[bytes, Any]:
    merged = Folder()
    for layer in layer_list:
        merged = lay_over(merged, model_of(layer))
    seen: dict[bytes, Any] = {}

    def visit(folder: Folder, prefix: bytes) -> None:
        for name, item in folder.items():
            path = prefix + name
            if isinstance(item, Folder):
                meta = item.meta or Entry(path, Kind.DIR, 0o755)
                seen[path] = ("d", meta.mode, meta.mtime_ns, b"", id(item))
                visit(item, path + b"/")
            else:
                entry, data = item
                content = entry.link if entry.kind is Kind.SYMLINK else data
                seen[path] = (entry.kind.name[0].lower(), entry.mode, entry.mtime_ns, content, id(item))

    visit(merged, b"")
    return seen


def seen_in_tree(tree: Tree, blobs: list[bytes]) -> dict[bytes, Any]:
    seen = {}
    content: dict[tuple[int, int], str] = {}
    for layer, blob in enumerate(blobs):
        wanted = [n.position for _, n in tree.walk() if n.layer == layer and n.entry.kind is Kind.FILE]
        for position, digest in digests(io.BytesIO(blob), None, wanted).items():
            content[layer, position] = digest
    for path, node in tree.walk():
        entry = node.entry
        inode = (node.layer, node.position) if node.layer >= 0 else path
        text: Any = (
            entry.link if entry.kind is Kind.SYMLINK else content.get((node.layer, node.position), b"")
        )
        seen[path] = (entry.kind.name[0].lower(), entry.mode, entry.mtime_ns, text, inode)
    del seen[b""]
    return seen


def plain(seen: dict[bytes, Any]) -> dict[bytes, Any]:
    """With hard links as the set of paths that are one, and contents as digests."""
    groups: dict[Any, list[bytes]] = {}
    for path in sorted(seen):
        groups.setdefault(seen[path][4], []).append(path)
    out = {}
    for path, (kind, mode, mtime, text, inode) in seen.items():
        if isinstance(text, bytes) and kind == "f":  # fifos are "f" too, and empty
            text = hashlib.sha256(text).hexdigest() if text else b""
        out[path] = (kind, mode, mtime, text, tuple(groups[inode]) if kind != "d" else ())
    return out


# -- the kernel: a helper in its own mount namespace unpacks, mounts, looks and unmounts

HELPER = r"""
import base64, ctypes, io, json, os, shutil, stat, subprocess, sys
from functools import partial
from pathlib import Path
from minibuild.layers.unpack import unpack
from minibuild_store.digest import Digest
work = Path(sys.argv[1])
for line in sys.stdin:
    blobs = [base64.b64decode(blob) for blob in json.loads(line)]
    lowers = []
    for number, blob in enumerate(blobs):
        folder = work / str(number)
        folder.mkdir()
        unpack(io.BytesIO(blob), None, folder, diff_id=Digest.of(blob), skip_devices=True)
        lowers.append(folder)
    for name in ("base", "upper", "work", "merged"):
        (work / name).mkdir()
    lower = ":".join(map(str, [*reversed(lowers), work / "base"]))
    options = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work,userxattr"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", work / "merged"], check=True)
    seen = {}
    root = os.fsencode(work / "merged")
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                continue  # overlayfs lists a whiteout that has nothing to hide
            kind = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "s", stat.S_IFIFO: "fifo"}[
                stat.S_IFMT(info.st_mode)
            ]
            text = b""
            if kind == "s":
                text = os.readlink(path)
            elif kind == "f":
                text = open(path, "rb").read()
            row = [kind[0], stat.S_IMODE(info.st_mode), info.st_mtime_ns]
            seen[os.fsdecode(path[len(root) + 1 :])] = [*row, base64.b64encode(text).decode(), info.st_ino]
    subprocess.run(["umount", work / "merged"], check=True)
    for child in work.iterdir():
        shutil.rmtree(child)
    print(json.dumps(seen), flush=True)
"""


class Kernel:
    def __init__(self, command: list[str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", HELPER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def see(self, blobs: list[bytes]) -> dict[bytes, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([base64.b64encode(blob).decode() for blob in blobs]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the helper failed"
        return {os.fsencode(p): (*v[:3], base64.b64decode(v[3]), v[4]) for p, v in json.loads(line).items()}

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def as_root() -> list[str]:
    if os.geteuid() != 0:
        pytest.skip("not root")
    return ["unshare", "-m"]


def in_user_namespace() -> list[str]:
    command = ["unshare", "-Urm"]
    if subprocess.run([*command, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    return command


@pytest.fixture(params=[as_root, in_user_namespace], ids=["root", "user namespace"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    helper = Kernel(request.param(), tmp_path)
    yield helper
    helper.close()


# -- the properties


def tree_of(blobs: list[bytes]) -> Tree:
    return Tree.of(index_blob(io.BytesIO(blob), None, Digest.of(blob)) for blob in blobs)


@settings(max_examples=400, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4))
def test_tree_agrees_with_the_model(layer_list: list[Layer]) -> None:
    blobs = [archive(layer) for layer in layer_list]
    assert plain(seen_in_tree(tree_of(blobs), blobs)) == plain(seen_in_model(layer_list))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer_list=st.lists(layers(), min_size=1, max_size=4))
def test_overlay_of_unpacked_layers_agrees_with_the_tree(kernel: Kernel, layer_list: list[Layer]) -> None:
    blobs = [archive(layer) for layer in layer_list]
    tree = tree_of(blobs)
    repairs = tree.repairs()
    note(repr(repairs))
    shown = blobs[tree.base :]
    if repairs:
        shown = [*shown, archive([(entry, b"") for entry in repairs])]
    assert plain(kernel.see(shown)) == plain(seen_in_tree(tree, blobs))


@settings(max_examples=100, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4))
def test_layers_laid_one_by_one_make_the_same_tree(layer_list: list[Layer]) -> None:
    indexes = [index_blob(io.BytesIO(b), None, Digest.of(b)) for b in map(archive, layer_list)]
    tree = Tree()
    for index in indexes:
        list(tree.walk())  # so that its children are known
        tree = tree.over(index)
    assert list(tree.walk()) == list(Tree.of(indexes).walk())
    assert tree.repairs() == Tree.of(indexes).repairs()


@settings(max_examples=100, deadline=None)
@given(layer=layers())
def test_extracted_content_is_that_of_the_tree(layer: Layer) -> None:
    blob = archive(layer)
    tree = tree_of([blob])
    model = seen_in_model([layer])
    files = {path: node for path, node in tree.walk() if node.entry.kind is Kind.FILE}
    with tempfile.TemporaryDirectory() as folder:
        wanted = {node.position: Path(folder, str(node.position)) for node in files.values()}
        got = extract(io.BytesIO(blob), None, wanted)
        for path, node in files.items():
            data = wanted[node.position].read_bytes()
            assert data == model[path][3]
            assert got[node.position] == hashlib.sha256(data).hexdigest()


# -- the merged filesystem as an output


class Collected:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data


def merge_layers(blobs: list[bytes]) -> list[MergeLayer]:
    layers = []
    for blob in blobs:
        index = index_blob(io.BytesIO(blob), None, Digest.of(blob))
        layers.append(MergeLayer(index, partial(io.BytesIO, blob)))
    return layers


@settings(max_examples=150, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4))
def test_the_merged_tar_holds_what_the_model_sees(layer_list: list[Layer]) -> None:
    out = Collected()
    merge_to_tar(merge_layers([archive(layer) for layer in layer_list]), out)
    assert plain(seen_in_tree(tree_of([out.data]), [out.data])) == plain(seen_in_model(layer_list))


@settings(max_examples=100, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=3), layers())
def test_the_merged_folder_holds_what_the_model_sees(layer_list: list[Layer], before: Layer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dest = Path(folder)
        merge_to_folder(merge_layers([archive(before)]), dest)
        merge_to_folder(merge_layers([archive(layer) for layer in layer_list]), dest, delete=True)
        assert plain(seen_on_disk(dest)) == plain(seen_in_model(layer_list))


def seen_on_disk(root: Path) -> dict[bytes, Any]:
    seen = {}
    for path in root.rglob("*"):
        info = path.lstat()
        text = b""
        if path.is_symlink():
            text = os.fsencode(os.readlink(path))
        elif path.is_file():
            text = path.read_bytes()
        kind = "s" if path.is_symlink() else "d" if path.is_dir() else "f"
        row = (kind, stat.S_IMODE(info.st_mode), info.st_mtime_ns, text, info.st_ino)
        seen[os.fsencode(path.relative_to(root))] = row
    return seen
