"""COPY of any tree to any place gives what a plain model gives, or is refused as there."""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.context.place import Owner, Placement
from minibuild.context.rows import Row
from minibuild.context.select import select
from minibuild.errors import MinibuildError
from minibuild.layers.entry import Entry, Kind

Node = tuple[str, int, str]  # "dir", "file" or "link"; mode; content or target
Files = dict[str, Node]


class Refused(Exception):
    pass


# The model: whole trees, changed in place, with no layers, rows or digests.


def resolve(tree: Files, path: str, depth: int = 0) -> str:
    """`path` with all links followed; the root's name is empty."""
    if depth > 50:
        raise Refused("a loop")
    done = ""
    parts = path.split("/")
    for number, part in enumerate(parts):
        if part in ("", "."):
            continue
        if part == "..":
            done = posixpath.dirname(done)
            continue
        step = posixpath.join(done, part)
        node = tree.get(step)
        if node is not None and node[0] == "link":
            rest = "/".join(parts[number + 1 :])
            start = "" if node[2].startswith("/") else done
            return resolve(tree, f"{start}/{node[2]}/{rest}", depth + 1)
        done = step
    return done


def make_folders(tree: Files, path: str) -> None:
    if not path:
        return
    make_folders(tree, posixpath.dirname(path))
    if tree.setdefault(path, ("dir", 0o755, ""))[0] != "dir":
        raise Refused(f"{path} is no folder")


def put(tree: Files, path: str, node: Node) -> None:
    there = tree.get(path)
    if there is not None and (there[0] == "dir") != (node[0] == "dir"):
        raise Refused("a folder and something else")
    tree[path] = node


def fits(name: str, pattern: str) -> bool:
    pairs = list(zip(name.split("/"), pattern.split("/"), strict=False))
    return name.count("/") == pattern.count("/") and all(fnmatchcase(*pair) for pair in pairs)


def copy(source: Files, pattern: str, tree: Files, dest: str) -> None:
    names = [pattern]
    if "*" in pattern:
        fixed = pattern.partition("*")[0].rpartition("/")[0]
        base = resolve(source, fixed)
        if base not in {"", *source}:
            raise Refused("no such folder")
        wild = posixpath.join(base, pattern[len(fixed) :].lstrip("/"))
        names = [name for name in sorted(source) if fits(name, wild)]
    found = [(name, resolve(source, name)) for name in names]
    if any(place not in {"", *source} for _, place in found):
        raise Refused("nothing there")
    for name, place in found:
        make_folders(tree, resolve(tree, dest if dest.endswith("/") else posixpath.dirname(dest)))
        target = resolve(tree, dest)
        if not place or source[place][0] == "dir":
            make_folders(tree, target)
            for below in sorted(source):
                if not place or below.startswith(f"{place}/"):
                    name = below[len(place) + 1 :] if place else below
                    put(tree, posixpath.join(target, name), source[below])
            continue
        if target == "" or tree.get(target, ("", 0, ""))[0] == "dir":
            target = posixpath.join(target, posixpath.basename(name))
        make_folders(tree, posixpath.dirname(target))
        put(tree, target, source[place])


# The same through the real parts.


class Memory:
    """A tree as a view to copy from, and as what lies below a layer."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def resolve(self, path: bytes) -> bytes:
        return resolve(self.files, path.decode()).encode()

    def entry(self, path: bytes) -> Entry | None:
        if not path:
            return Entry(b"", Kind.DIR, 0o755)
        node = self.files.get(path.decode())
        if node is None:
            return None
        kind = {"dir": Kind.DIR, "file": Kind.FILE, "link": Kind.SYMLINK}[node[0]]
        link = node[2].encode() if kind is Kind.SYMLINK else b""
        return Entry(path, kind, node[1], link=link)

    def names(self, path: bytes) -> list[bytes]:
        folder = path.decode()
        return sorted(
            posixpath.basename(name).encode() for name in self.files if posixpath.dirname(name) == folder
        )

    def walk(self, path: bytes) -> list[Row]:  # type: ignore[override]
        below = path + b"/" if path else b""
        rows = [Row(self.entry(path)._replace(path=b""), path)]  # type: ignore[union-attr]
        for name in sorted(name.encode() for name in self.files):
            if name.startswith(below) and name != path:
                entry = self.entry(name)
                assert entry is not None
                rows.append(Row(entry._replace(path=name[len(below) :]), name))
        return rows


def through_the_parts(source: Files, pattern: str, tree: Files, dest: str, owner: Owner | None) -> Files:
    view, placement = Memory(source), Placement(Memory(tree), owner=owner)
    for match in select(view, pattern):  # type: ignore[arg-type]
        placement.copy(match, f"/{dest}")
    result = dict(tree)
    for placed in placement.finish():
        entry, path = placed.entry, placed.entry.path.decode()
        kind = {Kind.DIR: "dir", Kind.FILE: "file", Kind.SYMLINK: "link"}[entry.kind]
        content = source[placed.where.decode()][2] if kind == "file" and placed.where else entry.link.decode()
        if kind == "file" and not placed.where:
            content = tree[path][2]
        result[path] = (kind, entry.mode, content)
    return result


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
NODES = st.one_of(
    st.tuples(st.just("file"), st.sampled_from([0o644, 0o755]), st.sampled_from(["1", "2"])),
    st.tuples(st.just("dir"), st.sampled_from([0o755, 0o700]), st.just("")),
    st.tuples(st.just("link"), st.just(0o777), st.sampled_from(["a", "../b", "/c", "/a/b", "gone", ".."])),
)


@st.composite
def trees(draw: st.DrawFn) -> Files:
    tree: Files = {}
    for path, node in draw(st.dictionaries(PATHS, NODES, max_size=8)).items():
        parents = [path.rsplit("/", count)[0] for count in range(path.count("/"), 0, -1)]
        if all(tree.setdefault(parent, ("dir", 0o755, ""))[0] == "dir" for parent in parents):
            tree.setdefault(path, node)
    return tree


PATTERNS = st.one_of(PATHS, st.sampled_from(["*", "a*", "*/a", "a/*", "b/*", "*/*"]))
DESTINATIONS = st.builds(str.__add__, PATHS, st.sampled_from(["", "/"])) | st.just("")


@settings(max_examples=400, deadline=None)
@given(trees(), PATTERNS, trees(), DESTINATIONS)
def test_copy_does_what_the_model_does(source: Files, pattern: str, tree: Files, dest: str) -> None:
    wanted: Files | None = dict(tree)
    try:
        assert wanted is not None
        copy(source, pattern, wanted, dest)
    except Refused:
        wanted = None
    got: Files | None
    try:
        got = through_the_parts(source, pattern, tree, dest, None)
    except (MinibuildError, Refused):
        got = None
    assert got == wanted


@given(trees(), trees())
def test_an_owner_is_everythings_owner(source: Files, tree: Files) -> None:
    placement = Placement(Memory(tree), owner=Owner(5, 6))
    try:
        for match in select(Memory(source), "*"):  # type: ignore[arg-type]
            placement.copy(match, "/new/")
    except (MinibuildError, Refused):
        return
    entries = placement.finish()
    assert all((entry.entry.uid, entry.entry.gid) == (5, 6) for entry in entries if entry.entry.path not in
               {name.encode() for name in tree})  # fmt: skip


def test_entries_come_parents_first_and_siblings_bytewise() -> None:
    placement = Placement(Memory({}))
    source: Files = {name: ("file", 0o644, "") for name in ("a-b", "a.b", "z")}
    source |= {"a": ("dir", 0o755, ""), "a/x": ("file", 0o644, "")}
    for match in select(Memory(source), "/"):  # type: ignore[arg-type]
        placement.copy(match, "/new")
    paths = [placed.entry.path.decode() for placed in placement.finish()]
    assert paths == ["new", "new/a", "new/a/x", "new/a-b", "new/a.b", "new/z"]


@pytest.mark.parametrize("pattern", ["gone", "gone/*", "a/gone"])
def test_a_source_that_is_not_there_is_named(pattern: str) -> None:
    with pytest.raises(MinibuildError, match=r"not found"):
        select(Memory({"a": ("dir", 0o755, "")}), pattern)  # type: ignore[arg-type]
