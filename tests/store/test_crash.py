"""Processes killed in the middle of their work."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minibuild_store.digest import Digest
from minibuild_store.gc import Roots
from minibuild_store.store import Store

WORK = """
import threading
def data(number):
    return (b'%d ' % number) * (1 + number % 7 * 9000)
def work(start):
    number = start + os.getpid() * 37 % 200
    records = store.records('k')
    while True:
        number = start + (number - start + 1) % 200
        content = data(number)
        with store.lock(f'key {number}'):
            with store.blobs.writer() as writer:
                for at in range(0, len(content), 10_000):
                    writer.write(content[at:at + 10_000])
                info = writer.commit()
            with store.snapshots.workspace() as folder:
                for name in 'abc':
                    (folder / name).write_bytes(content[:100])
                store.snapshots.commit(folder, str(number))
            records.put(str(number), info.digest.encode())
            with store.blobs.partial(Digest.of(content + b'!')) as download:
                if not store.blobs.has(Digest.of(content + b'!')):
                    for at in range(download.size, len(content) + 1, 5_000):
                        download.write((content + b'!')[at:at + 5_000])
                    download.commit(size=len(content) + 1)
            store.snapshots.delete(str(number)) if number % 5 == 0 else None
        if start == 2000:
            say('did one')
threading.Thread(target=work, args=(0,), daemon=True).start()
threading.Thread(target=work, args=(1000,), daemon=True).start()
say('working')
work(2000)
"""


def check_whole(store: Store) -> int:
    """Every name stands for a whole thing; how many there are."""
    for digest in store.blobs:
        store.blobs.get(digest)
    records = store.records("k")
    names = set(records.names())
    for name in names:
        digest = records.get(name)
        assert digest is not None
        assert store.blobs.has(Digest(digest.decode()))
        size = 1 + int(name) % 7 * 9000
        assert store.blobs.get(Digest(digest.decode())) == (b"%d " % int(name)) * size
    for name in store.snapshots.names():
        path = store.snapshots.path(name)
        assert path is not None
        wanted = ((b"%d " % int(name)) * 100)[: min(100, (len(name) + 1) * (1 + int(name) % 7 * 9000))]
        assert {file.name: file.read_bytes() for file in path.iterdir()} == dict.fromkeys("abc", wanted)
    return len(names)


def test_a_store_is_whole_after_any_number_of_kills(
    root: Path, other: Callable[[str], Any], litter: Callable[[], list[str]]
) -> None:
    """Two processes of three threads each are killed again and again; nobody repairs anything."""
    chance = random.Random(1)
    with Store.open(root) as store:
        for _ in range(12):
            workers = [other(WORK), other(WORK)]
            for worker in workers:
                assert worker.hear() == "working"
            for _ in range(chance.randrange(10)):
                workers[0].hear()
            time.sleep(chance.random() * 0.003)
            for worker in workers:
                worker.kill()
            check_whole(store)
        assert check_whole(store) > 20
        for number in range(200):  # every key is free, every step can be done again
            with store.lock(f"key {number}", timeout=0):
                store.records("k").put(str(number), store.records("k").get(str(number)) or b"")
        assert store.clean() == []
    with Store.open(root) as store:
        store.gc(lambda: Roots(blobs=(), snapshots=(), records={"k": ()}))
        assert list(store.blobs) == list(store.snapshots.names()) == list(store.records("k").names()) == []
    assert litter() == []


def test_a_gc_killed_at_any_moment_loses_no_root_and_blocks_nobody(
    root: Path, other: Callable[[str], Any]
) -> None:
    chance = random.Random(2)
    keep = {Digest.of(b"keep %d" % number) for number in range(20)}
    with Store.open(root) as store:
        for number in range(20):
            store.blobs.put(b"keep %d" % number)
        for turn in range(8):
            for number in range(150):
                store.blobs.put(b"garbage %d %d" % (turn, number))
                with store.snapshots.workspace() as folder:
                    (folder / "file").write_text("x")
                    store.snapshots.commit(folder, str(number))
            store.close()
            killed = other(
                "say('ready')\n"
                f"store.gc(lambda: Roots(blobs={[str(digest) for digest in keep]!r}, snapshots=()))\n"
            )
            assert killed.hear() == "ready"
            time.sleep(chance.random() * 0.03)
            killed.kill()
            for digest in keep:
                store.blobs.get(digest)
            for name in store.snapshots.names():
                path = store.snapshots.path(name)
                assert path is not None
                assert (path / "file").read_text() == "x"
        store.gc(lambda: Roots(blobs=keep, snapshots=()), timeout=0)
        assert set(store.blobs) == keep
        assert os.listdir(root / "snapshots-v1") == [".boot"]


def test_a_process_killed_while_it_makes_the_store_leaves_one_that_opens(
    tmp_path: Path, other: Callable[[str], Any]
) -> None:
    """Every state that making a store passes through opens again."""
    script = (
        "import builtins\n"
        "count = 0\n"
        "def stop(event, args):\n"
        "    global count\n"
        "    if event in ('open', 'os.mkdir', 'os.rename', 'os.chmod', 'os.listdir'):\n"
        "        count += 1\n"
        "        if count == turn: os.kill(os.getpid(), 9)\n"
        "turn = -1\n"
        "sys.addaudithook(stop)\n"
        "for turn in range(1, 40):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        count = 0\n"
        f"        Store.open(Path({str(tmp_path)!r}) / f'new{{turn}}')\n"
        "        os._exit(0)\n"
        "    killed = os.waitpid(child, 0)[1] == 9\n"
        "    turn, kept = -1, turn\n"
        f"    with Store.open(Path({str(tmp_path)!r}) / f'new{{kept}}') as new:\n"
        "        assert new.blobs.get(new.blobs.put(b'x').digest) == b'x'\n"
        "    if not killed: break\n"
        "say(str(kept))\n"
    )
    assert int(other(script).finish()) > 15
