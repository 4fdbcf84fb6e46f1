"""Blobs: contents by digest."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minibuild_store.blobs import BlobInfo
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, BlobNotFound, InvalidDigest
from minibuild_store.store import Store

ABSENT = Digest.of(b"never stored")
anything = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, database=None
)


@anything
@given(data=st.binary(max_size=5000))
def test_what_is_put_is_got(store: Store, data: bytes) -> None:
    info = store.blobs.put(data)
    assert info == (Digest.of(data), len(data))
    assert store.blobs.get(info.digest) == data


@anything
@given(chunks=st.lists(st.binary(max_size=300), max_size=8))
def test_a_writer_hashes_what_it_is_given_in_any_pieces(store: Store, chunks: list[bytes]) -> None:
    with store.blobs.writer() as writer:
        for chunk in chunks:
            writer.write(chunk)
        info = writer.commit()
    assert info == (Digest.of(b"".join(chunks)), len(b"".join(chunks)))
    assert store.blobs.get(info.digest) == b"".join(chunks)


@anything
@given(data=st.binary(max_size=3000), sizes=st.lists(st.integers(0, 700), min_size=1, max_size=20))
def test_a_verified_stream_gives_the_bytes_in_any_pieces(store: Store, data: bytes, sizes: list[int]) -> None:
    digest = store.blobs.put(data).digest
    with store.blobs.open_verified(digest, len(data)) as file:
        got = b"".join(file.read(size) for size in sizes)
        got += file.read()
        assert file.read() == b""
    assert got == data


def test_a_verified_stream_fills_a_buffer(store: Store) -> None:
    digest = store.blobs.put(b"hello world").digest
    buffer = bytearray(20)
    with store.blobs.open_verified(digest) as file:
        assert file.readinto(buffer) == 11  # type: ignore[attr-defined]
        assert file.readinto(buffer) == 0  # type: ignore[attr-defined]
    assert bytes(buffer[:11]) == b"hello world"


def test_blobs_lie_where_an_oci_layout_has_them(store: Store, root: Path) -> None:
    digest = store.blobs.put(b"hello").digest
    assert store.blobs.path(digest) == root / "blobs" / "sha256" / digest.hex
    assert store.blobs.path(digest).read_bytes() == b"hello"


def test_a_blob_can_be_read_by_all_and_written_by_none(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"hello")
        digest = writer.commit().digest
    assert stat.S_IMODE(store.blobs.path(digest).stat().st_mode) == 0o444


def test_an_absent_blob_has_no_size(store: Store) -> None:
    assert store.blobs.size(ABSENT) is None
    assert not store.blobs.has(ABSENT)
    assert not store.blobs.has(ABSENT, 5)


def test_a_blob_of_another_size_does_not_count_as_there(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    assert store.blobs.has(digest, 5)
    assert not store.blobs.has(digest, 6)


def test_an_absent_blob_cannot_be_read(store: Store) -> None:
    for read in (store.blobs.get, store.blobs.open, store.blobs.open_verified):
        with pytest.raises(BlobNotFound, match=ABSENT):
            read(ABSENT)


def test_deleting_makes_a_blob_absent_and_absent_is_fine(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    store.blobs.delete(digest)
    assert not store.blobs.has(digest)
    store.blobs.delete(digest)


def test_iterating_names_every_blob(store: Store) -> None:
    digests = {store.blobs.put(bytes([number])).digest for number in range(10)}
    assert set(store.blobs) == digests


def test_an_open_blob_can_be_sought(store: Store) -> None:
    with store.blobs.open(store.blobs.put(b"hello").digest) as file:
        file.seek(2)
        assert file.read() == b"llo"


def test_a_path_cannot_be_smuggled_in_as_a_digest(store: Store) -> None:
    evil = Digest("sha256:../../store.json")
    for use in (store.blobs.get, store.blobs.size, store.blobs.delete, store.blobs.path, store.blobs.partial):
        with pytest.raises(InvalidDigest):
            use(evil)


def damage(store: Store, digest: Digest, data: bytes) -> None:
    path = store.blobs.path(digest)
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("bad", [b"hellO", b"hell", b"hello!", b""])
def test_damage_is_found_when_a_blob_is_got(store: Store, bad: bytes) -> None:
    digest = store.blobs.put(b"hello").digest
    damage(store, digest, bad)
    with pytest.raises(BlobDamaged) as caught:
        store.blobs.get(digest)
    assert (caught.value.got, caught.value.want) == (Digest.of(bad), digest)


def test_the_last_read_of_a_verified_stream_finds_damage(store: Store) -> None:
    digest = store.blobs.put(b"hello world").digest
    damage(store, digest, b"hello w0rld")
    with store.blobs.open_verified(digest, 11) as file:
        assert file.read(6) == b"hello "
        with pytest.raises(BlobDamaged):
            file.read(6)


def test_a_verified_stream_of_the_wrong_size_is_refused_at_once(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    with pytest.raises(BlobDamaged) as caught:
        store.blobs.open_verified(digest, 6)
    assert (caught.value.got, caught.value.want) == (5, 6)
    assert store.blobs.has(digest)  # the caller may be the one who is wrong


def test_a_file_cut_while_it_is_read_is_damage(store: Store) -> None:
    digest = store.blobs.put(b"hello world").digest
    with store.blobs.open_verified(digest) as file:
        file.read(3)
        damage(store, digest, b"hel")
        with pytest.raises(BlobDamaged):
            file.read()


def test_a_damaged_blob_is_gone_after_it_was_found_out(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    damage(store, digest, b"hellO")
    with pytest.raises(BlobDamaged):
        store.blobs.get(digest)
    assert not store.blobs.has(digest)


def test_putting_again_heals_a_damaged_blob(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    for bad in (b"hellO", b"h"):
        damage(store, digest, bad)
        store.blobs.put(b"hello")
        assert store.blobs.get(digest) == b"hello"


def test_a_blob_that_is_there_is_not_written_again(store: Store) -> None:
    digest = store.blobs.put(b"hello").digest
    inode = store.blobs.path(digest).stat().st_ino
    store.blobs.put(b"hello")
    assert store.blobs.path(digest).stat().st_ino == inode


def test_a_writer_that_was_not_committed_leaves_nothing(
    store: Store, root: Path, litter: Callable[[], list[str]]
) -> None:
    with pytest.raises(RuntimeError), store.blobs.writer() as writer:
        writer.write(b"hello")
        raise RuntimeError
    store.close()
    assert litter() == []
    assert list(store.blobs) == []


@pytest.mark.parametrize(
    ("expect", "size", "got"),
    [
        (Digest.of(b"other"), None, Digest.of(b"hello")),
        (Digest.of(b"hello"), 6, 5),
        (None, 4, 5),
        (Digest.of(b"other"), 5, Digest.of(b"hello")),
    ],
)
def test_a_commit_of_something_else_is_refused(
    store: Store, expect: Digest | None, size: int | None, got: str | int
) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(BlobDamaged) as caught:
            writer.commit(expect=expect, size=size)
    assert caught.value.got == got
    assert list(store.blobs) == []


def test_a_commit_as_expected_succeeds(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(memoryview(b"hello"))
        assert writer.commit(expect=Digest.of(b"hello"), size=5) == (Digest.of(b"hello"), 5)


def test_another_hash_algorithm_is_honoured(store: Store) -> None:
    digest = Digest("sha512:" + hashlib.sha512(b"hello").hexdigest())
    with store.blobs.writer() as writer:
        writer.write(b"hello")
        assert writer.commit(expect=digest).digest == digest
    assert store.blobs.get(digest) == b"hello"
    assert list(store.blobs) == [digest]


def test_another_process_may_write_through_the_descriptor(store: Store) -> None:
    with store.blobs.writer() as writer:
        subprocess.run(
            [sys.executable, "-c", f"import os; os.write({writer.fd}, b'from afar')"],
            pass_fds=[writer.fd],
            check=True,
        )
        info = writer.commit_hashed(BlobInfo(Digest.of(b"from afar"), 9))
    assert store.blobs.get(info.digest) == b"from afar"


def test_what_came_through_the_descriptor_is_hashed_at_an_ordinary_commit(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"near ")
        os.write(writer.fd, b"and far")
        assert writer.commit() == (Digest.of(b"near and far"), 12)


def test_a_trusted_writer_is_checked_by_size(store: Store) -> None:
    with store.blobs.writer() as writer:
        os.write(writer.fd, b"hello")
        with pytest.raises(BlobDamaged):
            writer.commit_hashed(BlobInfo(Digest.of(b"hello!"), 6))
    assert list(store.blobs) == []


def test_the_same_blob_may_be_committed_twice_and_is_never_absent_between(
    store: Store, other: Callable[[str], Any]
) -> None:
    data = b"x" * 100_000
    digest = store.blobs.put(data).digest
    writer = other(
        "for _ in range(300):\n"
        "    with store.blobs.writer() as writer:\n"
        "        writer.write(b'x' * 100_000); writer.commit()\n"
        "say('done')\n"
    )
    looks = 0
    while writer.process.poll() is None:
        assert store.blobs.get(digest) == data
        looks += 1
    assert looks > 50
    assert writer.finish() == "done\n"


def test_no_descriptor_stays_open(store: Store) -> None:
    def use(data: bytes) -> None:
        digest = store.blobs.put(data).digest
        store.blobs.get(digest)
        store.blobs.delete(digest)
        with store.blobs.partial(digest) as download:
            download.write(data)
            download.commit()
        with store.blobs.writer() as writer, pytest.raises(BlobDamaged):
            writer.commit(size=1)
        with store.blobs.writer():
            pass
        with pytest.raises(BlobDamaged):
            store.blobs.open_verified(digest, 0)
        with store.blobs.open_verified(digest), store.blobs.open(digest):
            pass
        store.records("k").put("name", data)
        store.records("k").get("name")
        with store.lease() as lease, store.lock("key"):
            lease.add(digest)

    use(b"first")
    before = os.listdir("/proc/self/fd")
    for number in range(5):
        use(b"%d" % number)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_durable_store_holds_the_same(root: Path) -> None:
    with Store.open(root, durable=True) as store:
        digest = store.blobs.put(b"hello").digest
        store.records("k").put("name", b"value")
        with store.snapshots.workspace() as folder:
            store.snapshots.commit(folder, "s")
    with Store.open(root) as store:
        assert store.blobs.get(digest) == b"hello"
        assert store.records("k").get("name") == b"value"
        assert store.snapshots.path("s")


def test_reading_less_than_all_of_a_damaged_blob_ends_in_an_error(store: Store) -> None:
    digest = store.blobs.put(b"what it was" * 1000).digest
    damage(store, digest, b"what it is!" * 1000)
    with pytest.raises(BlobDamaged), store.blobs.reading(digest) as file:
        assert file.read(7) == b"what it"
    assert not store.blobs.has(digest)


def test_an_error_while_a_blob_is_read_stays_that_error(store: Store) -> None:
    digest = store.blobs.put(b"what it was").digest
    damage(store, digest, b"what it is!")
    with pytest.raises(KeyError), store.blobs.reading(digest):
        raise KeyError
    assert store.blobs.has(digest)


def test_a_blob_that_was_read_is_not_hashed_again_until_it_is_touched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(root) as store:
        digest = store.blobs.put(b"content").digest
    with Store.open(root) as store:
        store.blobs.check(digest)
        with monkeypatch.context() as patch:
            patch.setattr(store.blobs, "open_verified", lambda digest: pytest.fail("it is hashed"))
            store.blobs.check(digest)
        damage(store, digest, b"CONTENT")
        with pytest.raises(BlobDamaged):
            store.blobs.check(digest)


def test_a_blob_that_is_put_again_keeps_its_time(store: Store) -> None:
    digest = store.blobs.put(b"content").digest
    os.utime(store.blobs.path(digest), ns=(5, 7))
    with store.blobs.writer() as writer:
        writer.write(b"content")
        writer.commit()
    status = store.blobs.status(digest)
    assert status is not None and status.st_mtime_ns == 7
