"""What gc deletes and what it must never take."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.digest import Digest
from minibuild_store.errors import StoreBusy
from minibuild_store.gc import Removed, Roots
from minibuild_store.store import Store

NOTHING = Roots(blobs=(), snapshots=(), records={"k": ()})


@pytest.fixture
def filled(root: Path) -> Store:
    """A store that an earlier process filled."""
    with Store.open(root) as store:
        for name in ("a", "b"):
            store.blobs.put(name.encode() * 1000)
            store.records("k").put(name, b"x")
            with store.snapshots.workspace() as folder:
                (folder / "file").write_text("12345")
                store.snapshots.commit(folder, name)
    return Store.open(root)


A, B = (Digest.of(name * 1000) for name in (b"a", b"b"))


def test_what_is_no_root_is_deleted_and_the_rest_is_kept(filled: Store) -> None:
    filled.gc(lambda: Roots(blobs=[A], snapshots=["a"], records={"k": ["a"]}))
    assert list(filled.blobs) == [A]
    assert filled.blobs.get(A) == b"a" * 1000
    assert list(filled.snapshots.names()) == ["a"]
    assert list(filled.records("k").names()) == ["a"]


def test_the_report_names_each_thing_with_its_bytes(filled: Store) -> None:
    report = filled.gc(lambda: Roots(blobs=[A], snapshots=["a"]))
    assert report.removed == (Removed("blob", B, 1000), Removed("snapshot", "b", 5))
    assert (report.bytes, report.left, report.dry_run) == (1005, (), False)


def test_a_dry_run_reports_the_same_and_deletes_nothing(filled: Store) -> None:
    dry = filled.gc(lambda: NOTHING, dry_run=True)
    assert len(list(filled.blobs)) == len(list(filled.snapshots.names())) == 2
    assert sorted(filled.records("k").names()) == ["a", "b"]
    real = filled.gc(lambda: NOTHING)
    assert sorted(dry.removed) == sorted(real.removed)
    assert len(dry.removed) == 6
    assert dry.dry_run


def test_a_part_that_roots_leave_out_is_left_alone(filled: Store) -> None:
    filled.records("other").put("x", b"x")
    assert filled.gc(lambda: Roots()).removed == ()
    filled.gc(lambda: Roots(records={"other": ()}))
    assert sorted(filled.records("k").names()) == ["a", "b"]
    assert list(filled.records("other").names()) == []


def test_roots_may_be_iterators_and_name_what_is_not_there(filled: Store) -> None:
    filled.gc(lambda: Roots(blobs=iter([A, Digest.of(b"?")]), records={"k": iter(["a"]), "none": ()}))
    assert list(filled.blobs) == [A]


def test_many_things_are_deleted(store: Store, root: Path) -> None:
    with Store.open(root) as earlier:
        for number in range(500):
            earlier.blobs.put(str(number).encode())
            earlier.records("k").put(str(number), b"x")
    keep = {Digest.of(str(number).encode()) for number in range(0, 500, 5)}
    report = store.gc(lambda: Roots(blobs=keep, records={"k": map(str, range(7))}))
    assert set(store.blobs) == keep
    assert len(list(store.records("k").names())) == 7
    assert len(report.removed) == 400 + 493


def test_a_lease_keeps_blobs_and_snapshots_while_it_lasts(filled: Store) -> None:
    with filled.lease() as lease:
        lease.add(A, "b")
        filled.gc(lambda: NOTHING)
        assert list(filled.blobs) == [A]
        assert list(filled.snapshots.names()) == ["b"]
    filled.gc(lambda: NOTHING)
    assert list(filled.blobs) == list(filled.snapshots.names()) == []


def test_the_lease_of_another_process_counts_until_it_dies(
    filled: Store, other: Callable[[str], Any]
) -> None:
    user = other(f"with store.lease() as lease: lease.add({A!r}); say('leased'); input()")
    assert user.hear() == "leased"
    filled.gc(lambda: NOTHING)
    assert list(filled.blobs) == [A]
    user.kill()
    filled.gc(lambda: NOTHING)
    assert list(filled.blobs) == []


def test_a_dry_run_passes_over_the_leases_of_the_dead(filled: Store, other: Callable[[str], Any]) -> None:
    user = other(f"with store.lease() as lease: lease.add({A!r}); say('leased'); input()")
    assert user.hear() == "leased"
    alive = filled.gc(lambda: NOTHING, dry_run=True)
    user.kill()
    dead = filled.gc(lambda: NOTHING, dry_run=True)
    assert len(dead.removed) - len(alive.removed) == 1


def test_what_a_running_process_stored_is_kept_until_it_closes_its_store(root: Path) -> None:
    with Store.open(root) as builder:
        info = builder.blobs.put(b"layer")
        with builder.blobs.partial(Digest.of(b"fetched")) as download:
            download.write(b"fetched")
            download.commit()
        with builder.snapshots.workspace() as folder:
            builder.snapshots.commit(folder, "rootfs")
        Store.open(root).gc(lambda: NOTHING)
        assert builder.blobs.has(info.digest)
        assert builder.blobs.has(Digest.of(b"fetched"))
        assert builder.snapshots.path("rootfs")
    assert len(Store.open(root).gc(lambda: NOTHING).removed) == 3


def test_a_blob_put_again_by_a_running_process_is_kept(filled: Store, root: Path) -> None:
    with Store.open(root) as builder:
        builder.blobs.put(b"a" * 1000)  # was there before
        filled.gc(lambda: NOTHING)
        assert builder.blobs.has(A)


def test_a_lease_added_while_gc_runs_is_seen(filled: Store) -> None:
    with filled.lease() as lease:

        def roots() -> Roots:
            lease.add(A, "a")
            return NOTHING

        filled.gc(roots)
        assert list(filled.blobs) == [A]
        assert list(filled.snapshots.names()) == ["a"]


def test_a_build_that_ends_while_gc_runs_loses_nothing(filled: Store, root: Path) -> None:
    """Its lease is gone by the time gc deletes, and what it recorded came after gc read the roots."""

    def roots() -> Roots:
        named = [Digest(name) for name in filled.records("tags").names()]
        with Store.open(root) as builder, builder.lease() as lease:
            lease.add(A)
            assert builder.blobs.has(A)
            builder.records("tags").put(A, b"")
        with Store.open(root):  # another start reaps the dead
            pass
        return Roots(blobs=named)

    filled.gc(roots)
    assert filled.blobs.has(A)


def test_what_is_stored_while_gc_runs_is_kept(filled: Store, root: Path) -> None:
    def roots() -> Roots:
        with Store.open(root) as builder:
            builder.blobs.put(b"late")
            builder.records("k").put("late", b"x")
            builder.records("k").put("a", b"put again")
            builder.records("k").touch("b")
            with builder.snapshots.workspace() as folder:
                builder.snapshots.commit(folder, "late")
        return NOTHING

    filled.gc(roots)
    assert filled.blobs.has(Digest.of(b"late"))
    assert filled.snapshots.path("late")
    assert sorted(filled.records("k").names()) == ["a", "b", "late"]
    assert filled.records("k").get("a") == b"put again"


def test_leases_released_while_gc_ran_are_forgotten_by_the_next(filled: Store, root: Path) -> None:
    def roots() -> Roots:
        with Store.open(root) as builder, builder.lease() as lease:
            lease.add(A)
        return NOTHING

    filled.gc(roots)
    assert list(filled.blobs) == [A]
    filled.gc(lambda: NOTHING)
    assert list(filled.blobs) == []


def test_an_error_of_roots_is_passed_on_and_deletes_nothing(filled: Store) -> None:
    def roots() -> Roots:
        raise FileNotFoundError("the caller's own")

    with pytest.raises(FileNotFoundError, match="the caller's own"):
        filled.gc(roots)
    assert len(list(filled.blobs)) == 2
    filled.gc(lambda: NOTHING, timeout=0)


def test_one_gc_at_a_time(filled: Store, root: Path) -> None:
    def roots() -> Roots:
        with pytest.raises(StoreBusy, match="garbage collection"):
            Store.open(root).gc(lambda: NOTHING, timeout=0.01)
        return Roots()

    filled.gc(roots)


def test_a_snapshot_that_cannot_be_deleted_is_out_of_sight_and_reported(filled: Store, root: Path) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError

    report = filled.gc(lambda: Roots(snapshots=["a"]), remove=refuse)
    assert [path.parent for path in report.left] == [root / "snapshots-v1"]
    assert list(filled.snapshots.names()) == ["a"]
    assert filled.clean() == []
    assert sorted(os.listdir(root / "snapshots-v1")) == [".boot", "a"]


def test_idle_downloads_go_and_those_in_use_or_needed_stay(filled: Store) -> None:
    idle, used, needed = (Digest.of(name) for name in (b"idle", b"used", b"needed"))
    for digest in (idle, used, needed):
        with filled.blobs.partial(digest) as download:
            download.write(b"xyz")
    with filled.blobs.partial(used):
        report = filled.gc(lambda: Roots(blobs=[A, B, needed]))
    assert report.removed == (Removed("partial", idle, 3),)
    for digest, size in ((idle, 0), (used, 3), (needed, 3)):
        with filled.blobs.partial(digest) as download:
            assert download.size == size


def test_lock_files_of_killed_processes_go(filled: Store, root: Path, other: Callable[[str], Any]) -> None:
    killed = other("store.lock('x').__enter__(); say('held'); input()")
    assert killed.hear() == "held"
    killed.kill()
    with filled.lock("mine"):
        assert len(os.listdir(root / "locks-v1")) == 2
        filled.gc(lambda: Roots())
        assert len(os.listdir(root / "locks-v1")) == 1
        with pytest.raises(StoreBusy), filled.lock("mine", timeout=0):
            pass


def test_lock_files_of_killed_processes_go_with_their_workspaces(
    store: Store, root: Path, other: Callable[[str], Any]
) -> None:
    for number in range(3):
        killed = other(f"store.lock('x{number}').__enter__(); say('held'); input()")
        assert killed.hear() == "held"
        killed.kill()
    with store.lock("mine"):
        store.clean()
        assert len(os.listdir(root / "locks-v1")) == 1


def test_a_dead_workspace_goes_with_gc(filled: Store, other: Callable[[str], Any]) -> None:
    dead = other("say(str(store.workspace().__enter__())); input()")
    folder = Path(dead.hear())
    dead.kill()
    filled.gc(lambda: Roots(), dry_run=True)
    assert folder.exists()
    filled.gc(lambda: Roots())
    assert not folder.exists()


def test_cache_folders_are_left_alone(filled: Store) -> None:
    (filled.caches / "pip").mkdir()
    filled.gc(lambda: NOTHING)
    assert (filled.caches / "pip").exists()


BUILD = """
import random
for turn in range(60):
    with Store.open(Path(sys.argv[1])) as build, build.lease() as lease:
        # blobs are shared between builds and turns, so that gc and re-use meet all the time
        digests = []
        for number in random.sample(range(30), 3):
            data = b'blob %d' % number
            digest = Digest.of(data)
            lease.add(digest)
            if not build.blobs.has(digest):
                with build.blobs.writer() as writer:
                    writer.write(data); writer.commit()
            digests.append(digest)
            name = f'snap{number}'
            lease.add(name)
            if build.snapshots.path(name) is None:
                with build.snapshots.workspace() as folder:
                    (folder / 'file').write_text(name); build.snapshots.commit(folder, name)
            assert (build.snapshots.path(name) / 'file').read_text() == name
        time.sleep(random.random() * 0.003)
        for digest in digests:
            assert build.blobs.get(digest)
        build.records('tags').put(f'tag{os.getpid() % 2}', ' '.join(digests).encode())
    for digest in digests:  # the record, not the lease, keeps them now - unless another took the name
        data = store.records('tags').get(f'tag{os.getpid() % 2}')
        if data.decode() == ' '.join(digests):
            with store.lease() as lease:
                lease.add(*digests)
                if store.records('tags').get(f'tag{os.getpid() % 2}') == data:
                    assert store.blobs.has(digest), f'lost {digest}'
say('done')
"""


def test_builds_and_gc_at_once_lose_nothing(store: Store, other: Callable[[str], Any]) -> None:
    builds = [other(BUILD) for _ in range(3)]

    def roots() -> Roots:
        tags = store.records("tags")
        used = b" ".join(tags.get(name) or b"" for name in tags.names()).decode().split(" ")
        return Roots(blobs=used, snapshots=(), records={"tags": tags.names()})

    runs = removed = 0
    while any(one.process.poll() is None for one in builds):
        removed += len(store.gc(roots).removed)
        runs += 1
    for one in builds:
        assert one.finish() == "done\n"
    assert runs > 5
    assert removed > 50


class SlowOs:
    """The os module as gc sees it, stopping at a chosen call the first time it is made."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name != self.call:
            return real

        def slow(*arguments: Any) -> Any:
            result = real(*arguments) if name == "close" else None
            if not self.reached.is_set():
                self.reached.set()
                self.go_on.wait(0.3)
            return result if name == "close" else real(*arguments)

        return slow


def beside_gc(store: Store, slow: SlowOs, roots: Roots, action: Callable[[], None]) -> None:
    """Run `action` in another thread while gc stands at the slow call."""

    def act() -> None:
        assert slow.reached.wait(10)
        action()
        slow.go_on.set()

    thread = threading.Thread(target=act)
    thread.start()
    store.gc(lambda: roots)
    thread.join()


def test_a_lease_asked_for_while_a_blob_is_deleted_comes_after_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowOs("unlink")
    monkeypatch.setattr("minibuild_store.gc.os", slow)
    with filled.lease() as lease:
        seen: list[bool] = []

        def action() -> None:
            lease.add(A)
            seen.append(filled.blobs.has(A))

        beside_gc(filled, slow, Roots(blobs=[B]), action)
        assert seen == [filled.blobs.has(A)]


def test_a_record_put_while_its_old_value_is_deleted_comes_after_it(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowOs("unlink")
    monkeypatch.setattr("minibuild_store.gc.os", slow)
    filled.records("k").put("warm", b"x")
    beside_gc(filled, slow, Roots(records={"k": ["a", "warm"]}), lambda: filled.records("k").put("b", b"new"))
    assert filled.records("k").get("b") == b"new"


def test_a_lease_added_between_two_batches_is_seen_by_the_second(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(root) as earlier:
        digests = [earlier.blobs.put(b"%d" % number).digest for number in range(100)]
    slow = SlowOs("close")  # the first thing gc closes is the gate after its first batch
    with store.lease() as lease:
        lease.add("something")
        there: list[Digest] = []

        def action() -> None:
            lease.add(*digests)
            there.extend(digest for digest in digests if store.blobs.has(digest))

        with monkeypatch.context() as patch:
            patch.setattr("minibuild_store.gc.os", slow)
            beside_gc(store, slow, Roots(blobs=()), action)
        assert len(there) == 36
        assert set(store.blobs) == set(there)


def test_gc_and_threads_of_the_same_process_exclude_each_other(store: Store, root: Path) -> None:
    stop = threading.Event()
    lost: list[str] = []

    def build() -> None:
        turn = 0
        while not stop.is_set():
            turn = (turn + 1) % 10
            data = b"%d" % turn
            with store.lease() as lease:
                lease.add(Digest.of(data))
                if not store.blobs.has(Digest.of(data)):
                    with Store.open(root) as short:  # its own hold on the blob ends at once
                        short.blobs.put(data)
                if not store.blobs.has(Digest.of(data)):
                    lost.append(str(turn))
            time.sleep(0.001)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    removed = 0
    for _ in range(60):
        time.sleep(0.005)  # what was leased during a gc is forgotten only between two
        removed += len(store.gc(lambda: NOTHING).removed)
    stop.set()
    for thread in threads:
        thread.join()
    assert lost == []
    assert removed > 0


def test_a_store_that_is_closed_while_a_gc_runs_leaves_nothing(filled: Store, root: Path) -> None:
    other = Store.open(root)
    other.blobs.put(b"of another process")

    def roots() -> Roots:
        other.close()
        return NOTHING

    filled.gc(roots)
    filled.close()
    assert [name for name in os.listdir(root / "running-v1") if name[0] != "."] == []
