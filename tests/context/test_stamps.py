"""A stamp is the same whichever way it is taken, and another after any change."""

import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.context.folder import FolderView
from minibuild.context.select import select
from minibuild.context.stamps import stamp_of, stamp_selection
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.errors import MinibuildError


def both(root, pattern="/"):
    """The stamp from rows and the one from the disk."""
    view = FolderView(str(root))
    return stamp_of(select(view, pattern)).digest, stamp_selection(view, pattern)


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


def test_rows_and_disk_give_the_same_stamp(folder):
    from_rows, from_disk = both(folder)
    assert from_rows == from_disk


def test_a_single_file_has_a_stamp_too(folder):
    from_rows, from_disk = both(folder, "same")
    assert from_rows == from_disk


def test_a_folder_that_is_gone_has_none(tmp_path):
    assert stamp_selection(FolderView(str(tmp_path)), "gone") is None


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
    before, _ = both(folder)
    change(folder)
    after, from_disk = both(folder)
    assert before != after
    assert after == from_disk


NAMES = st.lists(st.sampled_from(["a", "a-b", "a.b", "ab", "é", "z"]), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.sets(NAMES.map(tuple), max_size=8))
def test_the_order_of_any_tree_is_the_same(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    for parts in paths:
        root.joinpath(*parts).mkdir(parents=True, exist_ok=True)
        root.joinpath(*parts, "file").write_text("x")
    from_rows, from_disk = both(root)
    assert from_rows == from_disk


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


def looked_at(root, ignored, pattern, exclude):
    """The rows and their stamp, and the stamp from the disk; None for what cannot be selected."""
    ignore = IgnoreFile.parse("\n".join(ignored))
    from_disk = stamp_selection(FolderView(str(root), ignore.copy()), pattern, tuple(exclude))
    try:
        matches = select(FolderView(str(root), ignore), pattern, exclude=tuple(exclude))
    except MinibuildError:
        return None, None, from_disk
    rows = [(match.name, row.entry, row.stamp) for match in matches for row in match.rows]
    return rows, stamp_of(matches).digest, from_disk


@settings(max_examples=300, deadline=None)
@given(trees(), LINES, st.one_of(st.just("/"), PATTERNS), LINES, trees())
def test_whatever_is_selected_has_one_stamp_that_changes_with_it(
    tmp_path_factory, tree, ignored, pattern, exclude, added
):
    root = tmp_path_factory.mktemp("tree")
    make(root, tree)
    rows, from_rows, from_disk = looked_at(root, ignored, pattern, exclude)
    assert from_disk == from_rows
    make(root, added)
    later, later_from_rows, later_from_disk = looked_at(root, ignored, pattern, exclude)
    assert later_from_disk == later_from_rows
    assert (from_disk == later_from_disk) == (rows == later)
