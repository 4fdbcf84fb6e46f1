"""Locks between processes and threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.errors import StoreBusy
from minibuild_store.store import Store

HOLD = "with store.lock('key'): say('held'); input()\n"
HOLD_SHARED = "with store.lock('key', shared=True): say('held'); input()\n"


def busy(store: Store, **options: Any) -> bool:
    try:
        with store.lock("key", timeout=0.03, **options):
            return False
    except StoreBusy:
        return True


def test_another_process_is_excluded_until_release(store: Store, other: Callable[[str], Any]) -> None:
    holder = other(HOLD)
    assert holder.hear() == "held"
    assert busy(store)
    holder.tell()
    holder.finish()
    assert not busy(store)


def test_a_busy_lock_is_named(store: Store) -> None:
    with (
        store.lock("the key"),
        pytest.raises(StoreBusy, match="another process holds the key"),
        store.lock("the key", timeout=0),
    ):
        pass


def test_other_names_are_free(store: Store) -> None:
    with store.lock("one"), store.lock("two", timeout=0):
        pass


def test_the_lock_of_a_killed_process_is_free(store: Store, other: Callable[[str], Any]) -> None:
    holder = other(HOLD)
    assert holder.hear() == "held"
    holder.kill()
    assert not busy(store)


def test_shared_holders_exclude_only_an_exclusive_one(store: Store, other: Callable[[str], Any]) -> None:
    first, second = other(HOLD_SHARED), other(HOLD_SHARED)
    assert (first.hear(), second.hear()) == ("held", "held")
    assert busy(store)
    assert not busy(store, shared=True)
    first.tell()
    first.finish()
    assert busy(store)
    second.tell()
    second.finish()
    assert not busy(store)


def test_an_exclusive_holder_excludes_shared_ones(store: Store, other: Callable[[str], Any]) -> None:
    holder = other(HOLD)
    assert holder.hear() == "held"
    assert busy(store, shared=True)


def test_the_wait_ends_soon_after_the_release(store: Store) -> None:
    taken = threading.Event()
    waits: list[float] = []

    def wait() -> None:
        taken.wait()
        with store.lock("key"):
            waits.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    with store.lock("key"):
        taken.set()
        time.sleep(0.3)
    released = time.monotonic()
    thread.join()
    assert waits[0] - released < 0.2


def test_a_timeout_is_kept(store: Store) -> None:
    with store.lock("key"):
        start = time.monotonic()
        assert busy(store)
        assert 0.02 < time.monotonic() - start < 1


def test_a_wait_can_be_called_off(store: Store) -> None:
    calls = 0

    def waiting() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with (
        store.lock("key"),
        pytest.raises(KeyboardInterrupt),
        store.lock("key", timeout=10, waiting=waiting),
    ):
        pass
    assert not busy(store)


def count_up(store: Store, path: Path, times: int) -> None:
    for _ in range(times):
        with store.lock("counter"):
            number = int(path.read_text())
            path.write_text(str(number + 1))


def test_threads_of_one_process_exclude_each_other(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("0")
    threads = [threading.Thread(target=count_up, args=(store, path, 100)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "600"


def test_processes_exclude_each_other_though_lock_files_come_and_go(
    store: Store, tmp_path: Path, other: Callable[[str], Any]
) -> None:
    path = tmp_path / "counter"
    path.write_text("0")
    script = (
        f"path = Path({str(path)!r})\n"
        "for _ in range(200):\n"
        "    with store.lock('counter'):\n"
        "        path.write_text(str(int(path.read_text()) + 1))\n"
    )
    for one in [other(script) for _ in range(5)]:
        one.finish()
    assert path.read_text() == "1000"


def test_lock_files_do_not_accumulate(store: Store, root: Path) -> None:
    for number in range(50):
        with store.lock(f"exclusive {number}"), store.lock(f"shared {number}", shared=True):
            assert len(os.listdir(root / "locks-v1")) == 2
    assert os.listdir(root / "locks-v1") == []


def test_the_last_shared_holder_removes_the_file(store: Store, root: Path) -> None:
    first, second = store.lock("key", shared=True), store.lock("key", shared=True)
    with first:
        with second:
            pass
        assert len(os.listdir(root / "locks-v1")) == 1
        assert busy(store)
    assert os.listdir(root / "locks-v1") == []


def test_a_lock_is_released_by_an_exception(store: Store) -> None:
    with pytest.raises(RuntimeError), store.lock("key"):
        raise RuntimeError
    assert not busy(store)


def test_who_gives_up_waiting_lets_the_next_thread_have_its_turn(store: Store) -> None:
    had = threading.Event()

    def wait() -> None:
        with store.lock("key"):
            had.set()

    with store.lock("key"):
        assert busy(store)
        thread = threading.Thread(target=wait)
        thread.start()
        assert busy(store)
    thread.join(60)
    assert had.is_set()
    assert not busy(store)


def test_a_forked_child_is_excluded_by_its_parent_and_can_go_on_after_it(other: Callable[[str], Any]) -> None:
    parent = other(
        "ours, theirs = os.pipe()\n"
        "with store.lock('key'):\n"
        "    if not os.fork():\n"
        "        try:\n"
        "            store.lock('key', timeout=0.03).__enter__()\n"
        "        except StoreBusy:\n"
        "            say('busy')\n"
        "        os.write(theirs, b'.')\n"
        "        input()\n"
        "        with store.lock('key', timeout=50):\n"
        "            say('had')\n"
        "        os._exit(0)\n"
        "    os.read(ours, 1)\n"
        "say('released')\n"
        "os.wait()\n"
    )
    assert (parent.hear(), parent.hear()) == ("busy", "released")
    parent.tell()
    assert parent.hear() == "had"
    parent.finish()
