"""What an open store holds, and what is left of it when its process dies."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.files import remove_tree
from minibuild_store.gc import Roots
from minibuild_store.session import reap
from minibuild_store.store import Store


def test_a_workspace_is_private_and_goes_when_its_block_ends(store: Store, root: Path) -> None:
    with store.workspace() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.is_relative_to(root)
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert not folder.exists()


def test_a_workspace_goes_when_its_block_fails(store: Store) -> None:
    with pytest.raises(RuntimeError), store.workspace() as folder:
        raise RuntimeError
    assert not folder.exists()


def test_workspaces_are_apart(store: Store) -> None:
    with store.workspace() as one, store.workspace() as two:
        assert one != two


def test_a_workspace_is_removed_by_the_remover_it_was_given(store: Store) -> None:
    removed = []

    def remove(path: Path) -> None:
        removed.append(path)
        remove_tree(path)

    with store.workspace(remove=remove) as folder:
        pass
    assert removed == [folder]


def test_folders_that_deny_their_owner_are_removed(common: Path, unprivileged: Callable[..., str]) -> None:
    said = unprivileged(
        "from pathlib import Path\n"
        "from minibuild_store.store import Store\n"
        "store = Store.open(Path(sys.argv[1]) / 'mine')\n"
        "with store.workspace() as folder:\n"
        "    (folder / 'work' / 'work').mkdir(parents=True)\n"
        "    (folder / 'work' / 'work' / 'file').write_text('x')\n"
        "    (folder / 'work' / 'work' / 'link').symlink_to('/')\n"
        "    (folder / 'work' / 'work').chmod(0)\n"
        "    (folder / 'work').chmod(0o500)\n"
        "    folder.chmod(0)\n"
        "print(folder.exists())\n"
        "store.close()\n",
        common,
    )
    assert said == "False\n"


def test_closing_leaves_nothing(root: Path, litter: Callable[[], list[str]]) -> None:
    with Store.open(root) as store:
        store.blobs.put(b"x")
        store.records("k").put("name", b"x")
        with store.lease() as lease:
            lease.add("name")
        store.blobs.writer().write(b"unfinished")
    assert litter() == []


def test_a_store_that_was_closed_can_be_used_again(root: Path, litter: Callable[[], list[str]]) -> None:
    store = Store.open(root)
    store.blobs.put(b"x")
    store.close()
    digest = store.blobs.put(b"y").digest
    store.close()
    assert store.blobs.get(digest) == b"y"
    assert litter() == []


def test_reading_a_store_writes_nothing(root: Path, litter: Callable[[], list[str]]) -> None:
    with Store.open(root) as store:
        digest = store.blobs.put(b"x").digest
    store = Store.open(root)
    store.blobs.get(digest)
    store.records("k").get("name")
    store.snapshots.path("one")
    assert litter() == []


def test_a_process_that_forgets_to_close_ends_in_silence_and_leaves_nothing(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    assert other("store.blobs.put(b'x'); other = store").finish() == ""
    with Store.open(root) as store:
        store.records("k").put("name", b"x")
    assert litter() == []


DIE = (
    "writer = store.blobs.writer(); writer.write(b'unfinished')\n"
    "folder = store.workspace().__enter__()\n"
    "(folder / 'file').write_text('x')\n"
    "lease = store.lease().__enter__(); lease.add('x')\n"
    "say(str(folder)); input()\n"
)


def test_unfinished_files_of_the_dead_go_when_the_next_process_writes(
    root: Path, other: Callable[[str], Any]
) -> None:
    dead = other(DIE)
    folder = Path(dead.hear())
    dead.kill()
    with Store.open(root) as store:
        store.blobs.put(b"x")
        assert os.listdir(folder.parent) == [folder.name]  # the workspace may need a sandbox to remove


def test_workspaces_of_the_dead_go_when_the_store_is_cleaned(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    dead = other(DIE)
    folder = Path(dead.hear())
    dead.kill()
    removed = []

    def remove(path: Path) -> None:
        removed.append(path)
        remove_tree(path)

    assert Store.open(root).clean(remove=remove) == []
    assert removed == [folder]
    assert litter() == []


def test_what_cannot_be_removed_is_named_and_left_for_another_time(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    dead = other(DIE)
    folder = Path(dead.hear())
    dead.kill()

    def refuse(path: Path) -> None:
        raise PermissionError

    store = Store.open(root)
    assert store.clean(remove=refuse) == [folder]
    assert (folder / "file").exists()
    assert store.clean() == []
    assert litter() == []


def test_workspaces_of_the_living_are_left_alone(store: Store, other: Callable[[str], Any]) -> None:
    alive = other(DIE + "(folder / 'file').read_text(); writer.commit(); say('whole')\n")
    folder = Path(alive.hear())
    assert store.clean() == []
    store.blobs.put(b"x")
    assert (folder / "file").exists()
    alive.tell()
    assert alive.hear() == "whole"


def in_child(action: Callable[[], object]) -> None:
    """Run `action` in a forked child, which must succeed."""
    child = os.fork()
    if not child:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_has_a_session_of_its_own(store: Store) -> None:
    store.blobs.put(b"parent")
    with store.workspace() as folder:

        def child() -> None:
            store.records("k").put("child", b"x")
            with store.workspace() as other:
                assert other.parent != folder.parent
            store.close()

        in_child(child)
        assert Store.open(store.root).clean() == []
        assert folder.exists()
    assert store.records("k").get("child") == b"x"


def test_a_forked_child_that_closes_the_store_ends_nothing_of_its_parent(store: Store, root: Path) -> None:
    digest = store.blobs.put(b"parent").digest
    in_child(store.close)
    Store.open(root).gc(lambda: Roots(blobs=()))
    assert store.blobs.has(digest)


def test_a_session_taken_for_dead_while_it_starts_begins_again(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reaps between the making of the lock file and the lock on it."""
    real, running, calls = fcntl.flock, str(root / "running-v1"), []

    def flock(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not calls:
            calls.append(fd)
            reap(running, None)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    digest = store.blobs.put(b"x").digest
    Store.open(root).gc(lambda: Roots(blobs=()))
    assert calls
    assert store.blobs.has(digest)
    assert len([name for name in os.listdir(running) if name.endswith(".lock")]) == 1


def test_a_child_does_not_keep_alive_what_its_parent_held(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    parent = other(
        "folder = store.workspace().__enter__()\n"
        "if os.fork() == 0:\n"
        "    store.records('k').put('x', b'x'); say(str(os.getpid())); time.sleep(60); os._exit(0)\n"
        "input()\n"
    )
    child = int(parent.hear())
    parent.kill()
    try:
        with Store.open(root) as store:
            assert store.clean() == []
            assert len([name for name in litter() if not name.endswith(".lock")]) == 1  # the child's
    finally:
        os.kill(child, 9)


def test_threads_share_a_store(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(50):
                data = f"{number} {turn}".encode()
                with store.workspace(), store.lease() as lease:
                    digest = store.blobs.put(data).digest
                    lease.add(digest)
                    store.records("k").put(digest, data)
                    assert store.blobs.get(digest) == store.records("k").get(digest) == data
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(store.blobs)) == 400


def test_sessions_starting_and_cleaning_at_once_do_not_harm_each_other(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    """Each session start reaps the dead; it must never take one that is just being made."""
    script = (
        "for number in range(150):\n"
        "    with Store.open(Path(sys.argv[1])) as one, one.workspace() as folder:\n"
        "        with one.blobs.writer() as writer:\n"
        "            writer.write(b'x' * number); one.clean(); writer.commit()\n"
        "        assert folder.is_dir()\n"
    )
    for one in [other(script) for _ in range(4)]:
        one.finish()
    assert litter() == []


def test_the_descriptors_of_a_session_are_not_inherited(store: Store) -> None:
    store.blobs.put(b"x")
    with store.lock("key"), store.blobs.writer() as writer:
        script = "import os; print(sorted(os.listdir('/proc/self/fd')))"
        seen = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, close_fds=False, check=True
        ).stdout
        assert f"'{writer.fd}'" not in seen


def test_a_scratch_file_has_no_name(store: Store, root: Path) -> None:
    descriptor = store.scratch()
    try:
        assert os.pwrite(descriptor, b"much", 0) == 4
        assert os.pread(descriptor, 9, 0) == b"much"
        assert not [path for path in root.rglob("*") if path.is_file() and path.read_bytes() == b"much"]
    finally:
        os.close(descriptor)
