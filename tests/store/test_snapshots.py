"""Snapshots: folders by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.store import Store


def make(store: Store, name: str, content: str = "x") -> Path:
    with store.snapshots.workspace() as folder:
        (folder / "fs").mkdir()
        (folder / "fs" / "file").write_text(content)
        return store.snapshots.commit(folder, name)


def test_a_committed_folder_has_its_name(store: Store, root: Path) -> None:
    path = make(store, "one", "content")
    assert path == store.snapshots.path("one")
    assert (path / "fs" / "file").read_text() == "content"
    assert list(store.snapshots.names()) == ["one"]


def test_an_absent_snapshot_is_none(store: Store) -> None:
    assert store.snapshots.path("one") is None


def test_a_workspace_that_was_not_committed_is_gone(store: Store) -> None:
    with store.snapshots.workspace() as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()
    assert list(store.snapshots.names()) == []


def test_the_first_to_commit_wins(store: Store) -> None:
    make(store, "one", "first")
    with store.snapshots.workspace() as folder:
        (folder / "file").write_text("second")
        path = store.snapshots.commit(folder, "one")
        assert folder.exists()
    assert (path / "fs" / "file").read_text() == "first"
    assert not folder.exists()


def test_an_empty_first_snapshot_wins_too(store: Store) -> None:
    with store.snapshots.workspace() as folder:
        path = store.snapshots.commit(folder, "one")
    make(store, "one", "second")
    assert os.listdir(path) == []


def test_processes_that_commit_the_same_name_all_get_the_same_folder(
    store: Store, other: Callable[[str], Any]
) -> None:
    script = (
        "for number in range(100):\n"
        "    with store.snapshots.workspace() as folder:\n"
        "        (folder / 'who').write_text(str(os.getpid()))\n"
        "        path = store.snapshots.commit(folder, str(number))\n"
        "        print((path / 'who').read_text())\n"
    )
    said = [one.finish() for one in [other(script) for _ in range(3)]]
    assert said[0] == said[1] == said[2]
    assert len(list(store.snapshots.names())) == 100


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".trash-x", "/etc", "a\0b", "a\nb"])
def test_a_name_cannot_lead_elsewhere(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a snapshot"):
        store.snapshots.path(name)


def test_a_deleted_snapshot_is_gone_and_absent_is_fine(store: Store, root: Path) -> None:
    make(store, "one")
    store.snapshots.delete("one")
    assert store.snapshots.path("one") is None
    assert [name for name in os.listdir(root / "snapshots-v1") if name != ".boot"] == []
    store.snapshots.delete("one")


def test_a_snapshot_is_out_of_sight_before_it_is_deleted(store: Store) -> None:
    make(store, "one")
    seen = []

    def remove(path: Path) -> None:
        seen.append((store.snapshots.path("one"), (path / "fs" / "file").exists()))

    store.snapshots.delete("one", remove=remove)
    assert seen == [(None, True)]


class TestAfterABoot:
    """What another boot ID in the store means."""

    def reboot(self, root: Path) -> None:
        (root / "snapshots-v1" / ".boot").write_text("00000000-0000-0000-0000-000000000000\n")

    def test_snapshots_of_the_last_minutes_are_not_trusted(self, root: Path) -> None:
        with Store.open(root) as store:
            make(store, "late")
        self.reboot(root)
        with Store.open(root) as store:
            assert store.snapshots.path("late") is None
            assert store.clean() == []
        assert [name for name in os.listdir(root / "snapshots-v1") if name != ".boot"] == []

    def test_snapshots_from_well_before_the_last_one_are_kept(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Store.open(root) as store:
            early = make(store, "early")
            while True:  # the kernel's clock for files has a coarse tick
                late = make(store, "late")
                if late.stat().st_ctime_ns > early.stat().st_ctime_ns:
                    break
                store.snapshots.delete("late")
        self.reboot(root)
        monkeypatch.setattr("minibuild_store.snapshots._UNFLUSHED_NS", 0)
        with Store.open(root) as store:
            assert store.snapshots.path("early")
            assert store.snapshots.path("late") is None

    def test_it_is_done_once(self, root: Path) -> None:
        Store.open(root)
        self.reboot(root)
        Store.open(root)
        with Store.open(root) as store:
            make(store, "new")
        with Store.open(root) as store:
            assert store.snapshots.path("new")

    def test_a_live_process_keeps_its_snapshots(self, root: Path, other: Callable[[str], Any]) -> None:
        builder = other(
            "with store.snapshots.workspace() as folder: store.snapshots.commit(folder, 'mine')\n"
            "say('made'); input()\n"
        )
        assert builder.hear() == "made"
        self.reboot(root)
        with Store.open(root) as store:
            assert store.snapshots.path("mine")

    def test_a_durable_store_trusts_what_it_flushed(self, root: Path) -> None:
        with Store.open(root, durable=True) as store:
            make(store, "flushed")
        self.reboot(root)
        with Store.open(root, durable=True) as store:
            assert store.snapshots.path("flushed")
