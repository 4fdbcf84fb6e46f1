"""What is in a folder, few and many: the same in the same order."""

import os
import stat
from pathlib import Path

import pytest

from minibuild.context import listing
from minibuild.context.folder import FolderView
from minibuild.context.survey import Survey


class Scratch:
    """Gives empty files; `given` is how many."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given = 0

    def __call__(self) -> int:
        self.given += 1
        return os.open(self.folder / f"scratch{self.given}", os.O_RDWR | os.O_CREAT | os.O_EXCL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(40):
        (folder / f"f{number * 7 % 40}").write_text(f"{number}")
    (folder / "f1.d").mkdir()
    (folder / "f1.d" / "inside").write_text("x")
    (folder / "link").symlink_to("f3")
    os.link(folder / "f3", folder / "second name")
    return folder


def test_a_folder_of_many_entries_is_listed_as_one_of_few(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> list[tuple[bytes, bytes, bool, int]]:
        return [
            (
                item.name,
                item.path,
                item.is_dir(follow_symlinks=False),
                stat.S_IFMT(item.stat(follow_symlinks=False).st_mode),
            )
            for item in listing.listed(os.fsencode(folder), scratch)
        ]

    scratch = Scratch(tmp_path)
    few = seen()
    assert [name for name, *_ in few] == sorted(os.listdir(os.fsencode(folder)))
    assert not scratch.given
    monkeypatch.setattr(listing, "_HELD", 3)
    assert seen() == few


def test_names_beyond_a_piece_pass_through_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minibuild.layers import names

    scratch = Scratch(tmp_path)
    whole = sorted(os.listdir(os.fsencode(folder)))
    assert list(names.in_order(iter(reversed(whole)), scratch, piece=5)) == whole
    assert scratch.given == 1


def test_a_survey_says_the_same_of_a_folder_whichever_way_it_is_listed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def survey() -> Survey:
        return Survey(FolderView(str(folder), None), ".", scratch=Scratch(tmp_path))

    stamp, rows = survey().stamp(), list(survey())
    monkeypatch.setattr(listing, "_HELD", 3)
    assert survey().stamp() == stamp
    assert list(survey()) == rows


def test_no_entry_is_held_once_the_next_is_asked_for(folder: Path, tmp_path: Path) -> None:
    import gc

    items = listing.listed(os.fsencode(folder), Scratch(tmp_path))
    for _ in range(30):
        next(items)
    left = [one for one in gc.get_referents(items) if isinstance(one, list)]
    held = [
        one for one in gc.get_objects() if isinstance(one, list) and one and isinstance(one[0], os.DirEntry)
    ]
    assert all(len(one) <= len(os.listdir(folder)) - 30 for one in [*left, *held])
