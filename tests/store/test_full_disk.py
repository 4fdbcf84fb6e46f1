"""A disk that fills: one clear error, the store whole, nothing temporary left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import os, sys, subprocess
from pathlib import Path
from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.errors import StoreFull
from minibuild_store.gc import Roots
from minibuild_store.store import Store

root = Path(sys.argv[1], 'store')
store = Store.open(root)
before = store.blobs.put(b'here before').digest
store.records('k').put('before', b'old value')

def fails(action):
    try:
        action()
    except StoreFull as error:
        assert error.path == str(root), error.path
        assert 'no space left for the store' in str(error)
    else:
        raise AssertionError('it did not fail')

def fill(leave=0):
    '''Take all space but `leave` bytes.'''
    with open(root.parent / 'filler', 'wb', buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError: pass
        file.truncate(max(0, file.tell() - leave))

def temporary():
    return [path.name for path in (root / 'running-v1').rglob('*') if path.name[0] in 'tw']

def check_whole():
    assert store.blobs.get(before) == b'here before'
    assert store.records('k').get('before') == b'old value'
    assert list(store.blobs) == [before], list(store.blobs)
    assert temporary() == [], temporary()
"""


def on_small_disk(tmp_path: Path, script: str, options: str = "size=1m") -> None:
    """Run a script in a mount namespace of its own, where `tmp_path` is a tmpfs of 1 MiB."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    command = f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$2" -c "$3" "$1"'  # gone with the namespace
    done = subprocess.run(
        [*unshare, "sh", "-c", command, "sh", str(tmp_path), sys.executable, BEGIN + script],
        capture_output=True,
        text=True,
    )
    if done.returncode or done.stderr:
        pytest.fail(done.stderr or f"exit code {done.returncode}")


def test_a_blob_that_does_not_fit(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "fails(lambda: store.blobs.put(bytes(2 << 20)))\n"
        "check_whole()\n"
        "def stream():\n"
        "    with store.blobs.writer() as writer:\n"
        "        for _ in range(20): writer.write(bytes(100_000))\n"
        "fails(stream)\n"
        "check_whole()\n",
    )


def test_the_space_of_a_blob_that_did_not_fit_is_free_again(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "writer = store.blobs.writer()\n"
        "fails(lambda: writer.write(bytes(2 << 20)))\n"
        "store.blobs.put(b'x' * 500_000)\n",
    )


def test_a_record_that_does_not_fit_leaves_the_old_value(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "fails(lambda: store.records('k').put('before', bytes(2 << 20)))\n"
        "check_whole()\n"
        "fill()\n"
        "fails(lambda: store.records('k').put('before', b'new value'))\n"
        "check_whole()\n",
    )


def test_a_new_record_on_a_full_disk(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "fill()\n"
        "fails(lambda: store.records('k').put('new', b'x' * 5000))\n"
        "check_whole()\n"
        "assert list(store.records('k').names()) == ['before']\n",
    )


def test_no_files_left_to_make(tmp_path: Path) -> None:
    """Inodes run out before bytes do."""
    on_small_disk(
        tmp_path,
        "store.close()\n"
        "store = Store.open(root)\n"
        "made = []\n"
        "try:\n"
        "    while True:\n"
        "        path = root.parent / str(len(made)); path.touch(); made.append(path)\n"
        "except OSError: pass\n"
        "fails(lambda: store.blobs.put(b'x'))\n"
        "fails(lambda: store.records('k').put('x', b''))\n"
        "fails(lambda: store.lock('x').__enter__())\n"
        "fails(lambda: store.workspace().__enter__())\n"
        "fails(lambda: store.lease().__enter__())\n"
        "fails(lambda: store.blobs.partial(Digest.of(b'x')).__enter__())\n"
        "check_whole()\n"
        "assert os.listdir(root / 'locks-v1') == []\n"
        "made.pop().unlink()\n"
        "fails(lambda: store.blobs.put(b'x'))  # a lock, but no folder for the session\n"
        "assert [n for n in os.listdir(root / 'running-v1') if n[0] != '.'] == []\n"
        "for path in made: path.unlink()\n"
        "store.blobs.put(b'x')\n",
        "size=1m,nr_inodes=60",
    )


def test_a_blob_that_was_written_but_cannot_be_committed(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "store.close()\n"
        "made = []\n"
        "with store.workspace():\n"
        "    try:\n"
        "        while True:\n"
        "            path = root.parent / str(len(made)); path.touch(); made.append(path)\n"
        "    except OSError: pass\n"
        "    made.pop().unlink()\n"
        "    writer = store.blobs.writer(); writer.write(b'x')\n"
        "    fails(writer.commit)  # no file left for the lease\n"
        "check_whole()\n",
        "size=1m,nr_inodes=60",
    )


def test_a_download_keeps_what_it_got_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "data = os.urandom(600_000); digest = Digest.of(data)\n"
        "fill(leave=300_000)\n"
        "with store.blobs.partial(digest) as download:\n"
        "    download.write(data[:200_000])\n"
        "    fails(lambda: download.write(data[200_000:]))\n"
        "    assert download.size == 200_000\n"
        "check_whole()\n"
        "(root.parent / 'filler').unlink()\n"
        "with store.blobs.partial(digest) as download:\n"
        "    assert download.size == 200_000\n"
        "    download.write(data[200_000:])\n"
        "    download.commit(size=600_000)\n"
        "assert store.blobs.get(digest) == data\n",
    )


def test_another_process_that_filled_the_disk_through_the_descriptor(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "with store.blobs.writer() as writer:\n"
        "    subprocess.run([sys.executable, '-c', f'import os; os.write({writer.fd}, bytes(2 << 20))'],\n"
        "                   pass_fds=[writer.fd])\n"
        "check_whole()\n",
    )


def test_gc_works_on_a_full_disk(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "store.blobs.put(b'garbage' * 20_000)\n"
        "with store.snapshots.workspace() as folder:\n"
        "    (folder / 'file').write_bytes(bytes(100_000)); store.snapshots.commit(folder, 'garbage')\n"
        "store.records('k').put('garbage', bytes(5000))\n"
        "store.close()\n"
        "fill()\n"
        "with Store.open(root) as store:\n"
        "    roots = Roots(blobs=[before], snapshots=(), records={'k': ['before']})\n"
        "    report = store.gc(lambda: roots)\n"
        "    assert report.bytes > 240_000 and len(report.removed) == 3, report\n"
        "    check_whole()\n"
        "    store.blobs.put(b'x' * 100_000)\n",
    )


def test_a_store_cannot_be_made_on_a_full_disk(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "fill()\n"
        "root = root.parent / 'second'\n"
        "fails(lambda: Store.open(root))\n"
        "(root.parent / 'filler').unlink()\n"
        "Store.open(root).blobs.put(b'x')\n",
    )


def test_a_workspace_filled_to_the_brim_is_removed(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        "try:\n"
        "    with store.workspace() as folder: (folder / 'file').write_bytes(bytes(2 << 20))\n"
        "except OSError: pass\n"
        "check_whole()\n"
        "store.blobs.put(b'x' * 500_000)\n",
    )
