"""Content digests: what they are made of, and when a file is not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minibuild.context import digests, survey
from minibuild.context.digests import FileDigests, content_digest
from minibuild.context.folder import FolderView
from minibuild.context.rows import Match
from minibuild.context.select import select
from minibuild.context.survey import Survey
from minibuild.context.taking import Taking

OLD = 1_200_000_000


class Memory(dict[str, bytes]):
    """Records that are not kept."""

    def mark(self, name: str) -> bytes | None:
        return self.get(name)

    def put(self, name: str, data: bytes) -> None:
        self[name] = data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "d").mkdir(parents=True)
    (folder / "d/a").write_text("a")
    (folder / "d/b").write_text("b")
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were read."""
    names: list[str] = []
    original = digests.hash_file

    def noted(path: bytes, size: int) -> str:
        names.append(os.path.basename(os.fsdecode(path)))
        return original(path, size)

    monkeypatch.setattr(digests, "hash_file", noted)
    return names


def matches(root: Path) -> list[Match]:
    return select(FolderView(str(root)), "d")


def taken(table: FileDigests, root: Path, selection: str = "d") -> str:
    """The content digest of the folder, as `table` knows it or learns it."""
    found = Survey(FolderView(str(root)), "d", scratch=lambda: pytest.fail("nothing is much here"))
    known = table.known(selection, found.stamp)
    if known is not None:
        return known
    taking = Taking(table, found, selection, modes=True)
    for item in found:
        taking.add(item)
    return taking.done()


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock be `seconds` ahead from now on."""
    now = survey.time.time_ns
    monkeypatch.setattr(survey.time, "time_ns", lambda: now() + int(seconds * 1e9))


def test_a_file_that_was_hashed_is_not_read_again(
    root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Memory(), Memory(), Memory()
    later(monkeypatch, 10)
    table = FileDigests(str(root), *tables)
    first = taken(table, root)
    table.save()
    assert sorted(read) == ["a", "b"]
    assert taken(FileDigests(str(root), *tables), root, "another question") == first
    assert sorted(read) == ["a", "b"]


@pytest.mark.parametrize("large", [0, 1 << 20])
def test_what_two_builds_learn_at_once_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(digests, "_LARGE", large)
    later(monkeypatch, 10)
    tables = Memory(), Memory(), Memory()
    one, other = (FileDigests(str(root), *tables) for _ in range(2))
    assert not one.table
    assert not other.table
    taken(one, root)
    (root / "d/c").write_text("c")
    taken(other, root, "another question")
    one.save()
    other.save()
    names = (b"d/a", b"d/b", b"d/c")
    assert [name in FileDigests(str(root), *tables).table for name in names] == [True] * 3


def test_a_file_is_known_however_its_folder_is_named(
    root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Memory(), Memory(), Memory()
    later(monkeypatch, 10)
    table = FileDigests(str(root), *tables)
    first = taken(table, root)
    table.save()
    read.clear()
    monkeypatch.chdir(root)
    here = Path()
    assert taken(FileDigests(str(here), *tables), here, "another question") == first
    assert read == []


def test_a_file_written_just_now_is_read_again(root: Path, read: list[str]) -> None:
    tables = Memory(), Memory(), Memory()
    for _ in range(2):
        table = FileDigests(str(root), *tables)
        taken(table, root)
        table.save()
    assert sorted(read) == ["a", "a", "b", "b"]


def test_a_second_write_within_the_same_tick_is_seen(root: Path) -> None:
    """Size, times and inode all stay: only reading again can tell."""
    tables = Memory(), Memory(), Memory()
    table = FileDigests(str(root), *tables)
    before = taken(table, root)
    table.save()
    stat = (root / "d/a").stat()
    (root / "d/a").write_text("X")
    os.utime(root / "d/a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert taken(FileDigests(str(root), *tables), root) != before


def digest(root: Path, **options: bool) -> str:
    found = matches(root)
    return content_digest(
        found,
        {
            row.where: Path(os.fsdecode(row.where)).read_text()
            for row in found[0].rows
            if row.entry.kind != "5"
        },
        **options,
    )


def test_times_do_not_enter(root: Path) -> None:
    before = digest(root)
    os.utime(root / "d/a", (OLD, OLD))
    os.utime(root / "d", (OLD, OLD))
    assert digest(root) == before


def test_modes_enter_unless_they_will_be_replaced(root: Path) -> None:
    before, without = digest(root), digest(root, modes=False)
    (root / "d/a").chmod(0o700)
    assert digest(root) != before
    assert digest(root, modes=False) == without


def test_names_of_one_file_are_told_from_two_files(root: Path) -> None:
    (root / "d/c").write_text("a")
    before = digest(root)
    (root / "d/c").unlink()
    os.link(root / "d/a", root / "d/c")
    assert digest(root) != before
