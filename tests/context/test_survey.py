"""A stamp is the same whichever way it is taken, and another after any change."""

import os
import re
import stat
import subprocess
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minibuild_store import stopping

from minibuild.context import lines
from minibuild.context import survey as surveying
from minibuild.context.folder import FolderView
from minibuild.context.select import NothingThere, held, select
from minibuild.context.survey import Survey
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.errors import MinibuildError


def scratch():
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


def survey(root, pattern="/", *, ignore=None, exclude=(), parents=False):
    view = FolderView(str(root), ignore)
    return Survey(view, pattern, exclude=exclude, parents=parents, scratch=scratch)


def stamp(root):
    return survey(root).stamp()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "src/deep/er").mkdir(parents=True)
    (tmp_path / "src-other").mkdir()
    (tmp_path / "src/a").write_text("a")
    (tmp_path / "src/deep/b").write_text("b")
    (tmp_path / "src/link").symlink_to("deep/b")
    os.link(tmp_path / "src/a", tmp_path / "same")
    os.mkfifo(tmp_path / "src/fifo")
    (tmp_path / "src/a").chmod(0o4755)
    return tmp_path


@pytest.mark.parametrize("pattern", ["/", "src", "same", "src/*", "s*"])
@pytest.mark.parametrize("many", [2, 1_000])
def test_the_rows_are_those_that_are_selected(folder, pattern, many, monkeypatch):
    monkeypatch.setattr(lines, "_HELD", many)
    monkeypatch.setattr(surveying, "_AT_ONCE", many)
    found = survey(folder, pattern)
    selected = select(FolderView(str(folder)), pattern)
    assert held(found) == held(found) == selected
    assert found.stamp() == survey(folder, pattern).stamp()


def test_a_name_may_hold_a_line_end(tmp_path):
    (tmp_path / "a\nb 0").touch()
    (tmp_path / "link").symlink_to("x\ny 1 ")
    assert held(survey(tmp_path)) == select(FolderView(str(tmp_path)), "/")


def test_what_is_gone_through_while_it_is_walked_may_be_forgotten(folder):
    found = survey(folder)
    walking = found.walking()
    first = next(walking)
    found.forget()
    assert [first, *walking] == list(survey(folder))
    assert found.stamp() == stamp(folder)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(NothingThere, match="gone"):
        survey(tmp_path, "gone").stamp()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "src/a").write_text("b"),
        lambda root: (root / "src/a").chmod(0o600),
        lambda root: (root / "src/new").touch(),
        lambda root: (root / "src/deep/b").unlink(),
        lambda root: os.utime(root / "src/deep/b", (1, 1)),
        lambda root: (root / "src/deep/b").rename(root / "src/deep/c"),
        lambda root: ((root / "src/link").unlink(), (root / "src/link").symlink_to("a")),
        lambda root: ((root / "src/fifo").unlink(), (root / "src/fifo").touch()),
        lambda root: (root / "src/empty").mkdir(),
    ],
)
def test_any_change_gives_another_stamp(folder, change):
    before = stamp(folder)
    change(folder)
    assert stamp(folder) != before


NAMES = st.lists(st.sampled_from(["a", "a-b", "a.b", "ab", "é", "z"]), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.sets(NAMES.map(tuple), max_size=8))
def test_the_order_of_any_tree_is_the_same(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    for parts in paths:
        root.joinpath(*parts).mkdir(parents=True, exist_ok=True)
        root.joinpath(*parts, "file").write_text("x")
    assert held(survey(root)) == select(FolderView(str(root)), "/")


PIECES = st.sampled_from(["a", "b", "c", "*", "**", "a*", "?", "[ab]"])
PATTERNS = st.lists(PIECES, min_size=1, max_size=3).map("/".join)
LINES = st.lists(st.tuples(st.sampled_from(["", "", "!"]), PATTERNS).map("".join), max_size=4)
SHORT = st.lists(st.sampled_from(["a", "b", "c", "ab"]), min_size=1, max_size=4)


@st.composite
def trees(draw):
    """Paths with what is there: a file, an empty folder, a socket, or a link to the text."""
    kinds = st.sampled_from(["file", "file", "dir", "socket", "a", "b/a", "gone"])
    return draw(st.dictionaries(SHORT.map(tuple), kinds, max_size=10))


def make(root, tree):
    for parts, kind in tree.items():
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.touch()
            elif kind == "dir":
                path.mkdir(exist_ok=True)
            elif kind == "socket":
                os.mknod(path, stat.S_IFSOCK | 0o600)
            else:
                path.symlink_to(kind)
        except OSError:
            continue  # something else is there already


def looked_at(root, ignored, pattern, exclude, parents):
    """The matches and their stamp; None for what cannot be selected."""
    ignore = IgnoreFile.parse("\n".join(ignored))
    found = survey(root, pattern, ignore=ignore.copy(), exclude=tuple(exclude), parents=parents)
    try:
        view = FolderView(str(root), ignore)
        matches = select(view, pattern, exclude=tuple(exclude), parents=parents)
    except MinibuildError as error:
        with pytest.raises(type(error), match=re.escape(error.message)):
            found.stamp()
        return None, None
    assert held(found) == matches
    return [(match.name, [row._replace(where=b"") for row in match.rows]) for match in matches], found.stamp()


@settings(max_examples=300, deadline=None)
@given(trees(), LINES, st.one_of(st.just("/"), PATTERNS), LINES, st.booleans(), trees())
def test_whatever_is_selected_has_one_stamp_that_changes_with_it(
    tmp_path_factory, tree, ignored, pattern, exclude, parents, added
):
    root = tmp_path_factory.mktemp("tree")
    make(root, tree)
    matches, before = looked_at(root, ignored, pattern, exclude, parents)
    make(root, added)
    later, after = looked_at(root, ignored, pattern, exclude, parents)
    assert (before == after) == (matches == later)


@pytest.mark.parametrize("pattern", ["/", "f*"])
def test_a_full_disk_is_not_taken_for_a_change(tmp_path, pattern, monkeypatch):
    monkeypatch.setattr(lines, "_HELD", 1)
    for number in range(3):
        (tmp_path / f"f{number}").touch()
    found = Survey(FolderView(str(tmp_path)), pattern, scratch=lambda: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(OSError, match="No space left"):
        found.stamp()


def test_a_walk_can_be_stopped(folder):
    def stop():
        raise KeyboardInterrupt

    with stopping.checking(stop), pytest.raises(KeyboardInterrupt):
        stamp(folder)


def test_folders_may_be_nested_deeper_than_calls(tmp_path):
    made = tmp_path
    for _ in range(1_200):
        made = made / "d"
        made.mkdir()
    (made / "file").touch()
    try:
        assert held(survey(tmp_path)) == select(FolderView(str(tmp_path)), "/")
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own way nests calls


def test_folders_that_show_for_what_is_below_may_be_nested_deeper_than_calls(tmp_path):
    depth = 1_200
    where = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=where)
        below = os.open("d", os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = below
    os.close(os.open("kept", os.O_CREAT | os.O_WRONLY, dir_fd=where))
    os.close(where)
    view = FolderView(str(tmp_path), IgnoreFile.parse("**\n!**/kept"))
    assert len(list(view.walk(b""))) == 1 + depth + 1
    assert view.entry(b"d") is not None
    subprocess.run(("rm", "-rf", tmp_path / "d"), check=True)
