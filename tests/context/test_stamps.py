"""A stamp is the same whichever way it is taken, and another after any change."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.context.folder import FolderView
from minibuild.context.select import select
from minibuild.context.stamps import stamp_folder, stamp_of


def both(root, name=b""):
    """The stamp from rows and the one from the disk."""
    from_rows = stamp_of(select(FolderView(str(root)), os.fsdecode(name) or "/"))
    path = os.fsencode(root) + (b"/" + name if name else b"")
    return from_rows, stamp_folder(name, path)


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
    from_rows, from_disk = both(folder, b"same")
    assert from_rows == from_disk


def test_a_folder_that_is_gone_has_none(tmp_path):
    assert stamp_folder(b"", os.fsencode(tmp_path / "gone")) is None


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
    assert before.digest != after.digest
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
