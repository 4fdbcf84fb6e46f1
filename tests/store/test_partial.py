"""Downloads that outlive the process that began them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minibuild_store import stopping
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged, StoreBusy, StoreFull
from minibuild_store.store import Store

DIGEST = Digest.of(b"hello world")


def test_a_download_in_one_go_becomes_a_blob(store: Store, litter: Callable[[], list[str]]) -> None:
    with store.blobs.partial(DIGEST) as download:
        assert download.size == 0
        download.write(b"hello world")
        download.commit(size=11)
    assert store.blobs.get(DIGEST) == b"hello world"
    store.close()
    assert litter() == []


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, database=None
)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_a_download_cut_anywhere_goes_on_where_it_was(store: Store, data: bytes, cuts: list[int]) -> None:
    digest = Digest.of(data)
    store.blobs.delete(digest)
    for cut in sorted(min(cut, len(data)) for cut in cuts):
        with store.blobs.partial(digest) as download:
            download.write(data[download.size : cut])
    with store.blobs.partial(digest) as download:
        download.write(data[download.size :])
        download.commit(size=len(data))
    assert store.blobs.get(digest) == data


def test_what_a_killed_process_got_is_there_for_the_next(
    store: Store, root: Path, other: Callable[[str], Any]
) -> None:
    killed = other(
        f"download = store.blobs.partial(Digest({DIGEST!r})).__enter__()\n"
        "download.write(b'hello ')\n"
        "say('written'); input()\n"
    )
    assert killed.hear() == "written"
    killed.kill()
    with store.blobs.partial(DIGEST) as download:
        assert download.size == 6
        download.write(b"world")
        download.commit()
    assert store.blobs.get(DIGEST) == b"hello world"


def test_one_writer_at_a_time(store: Store, other: Callable[[str], Any]) -> None:
    first = other(f"store.blobs.partial(Digest({DIGEST!r})).__enter__(); say('in'); input()")
    assert first.hear() == "in"
    with pytest.raises(StoreBusy, match="the download of sha256:"), store.blobs.partial(DIGEST, timeout=0.05):
        pass
    first.tell()
    first.finish()
    with store.blobs.partial(DIGEST, timeout=0):
        pass


def test_who_waited_finds_the_blob_and_an_empty_file(store: Store, other: Callable[[str], Any]) -> None:
    first = other(
        f"with store.blobs.partial(Digest({DIGEST!r})) as download:\n"
        "    say('in'); input(); download.write(b'hello world'); download.commit()\n"
    )
    assert first.hear() == "in"
    second = other(
        f"digest = Digest({DIGEST!r}); say('ready')\n"
        "with store.blobs.partial(digest) as download:\n"
        "    say(f'{store.blobs.has(digest)} {download.size}'); download.write(b'junk'); download.restart()\n"
    )
    assert second.hear() == "ready"
    first.tell()
    first.finish()
    assert second.hear() == "True 0"
    second.finish()
    assert store.blobs.get(DIGEST) == b"hello world"


def test_a_finished_download_is_beyond_the_reach_of_who_waited_for_it(
    store: Store, other: Callable[[str], Any]
) -> None:
    """A waiter must never come to hold the file that has become the blob."""
    script = (
        "for number in range(150):\n"
        "    data = b'x' * number; digest = Digest.of(data)\n"
        "    with store.blobs.partial(digest) as download:\n"
        "        assert download.size == 0; download.write(b'junk'); download.restart()\n"
        "        if not store.blobs.has(digest): download.write(data); download.commit()\n"
    )
    for one in [other(script) for _ in range(3)]:
        one.finish()
    for number in range(150):
        assert store.blobs.get(Digest.of(b"x" * number)) == b"x" * number


def test_too_few_bytes_are_refused_and_kept(store: Store) -> None:
    with store.blobs.partial(DIGEST) as download:
        download.write(b"hello")
        with pytest.raises(BlobDamaged) as caught:
            download.commit(size=11)
    assert (caught.value.got, caught.value.want) == (5, 11)
    with store.blobs.partial(DIGEST) as download:
        assert download.size == 5


@pytest.mark.parametrize("wrong", [b"HELLO world", b"hello world and more"])
def test_wrong_bytes_are_refused_and_forgotten(store: Store, wrong: bytes) -> None:
    with store.blobs.partial(DIGEST) as download:
        download.write(wrong)
        with pytest.raises(BlobDamaged):
            download.commit(size=11)
        assert download.size == 0
        download.write(b"hello world")
        download.commit(size=11)
    assert store.blobs.get(DIGEST) == b"hello world"


def test_a_server_that_cannot_resume_is_begun_again(store: Store) -> None:
    with store.blobs.partial(DIGEST) as download:
        download.write(b"hel")
    with store.blobs.partial(DIGEST) as download:
        download.restart()
        download.write(b"hello world")
        download.commit()
    assert store.blobs.get(DIGEST) == b"hello world"


def test_nothing_got_leaves_no_file(store: Store, litter: Callable[[], list[str]]) -> None:
    with store.blobs.partial(DIGEST):
        pass
    assert litter() == []


def test_a_download_that_could_not_be_committed_can_be_gone_on_with(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: str, target: str) -> None:
        modes.append(os.stat(source).st_mode & 0o777)
        raise OSError(errno.EDQUOT, "quota")

    modes: list[int] = []
    with monkeypatch.context() as patch, store.blobs.partial(DIGEST) as download:
        patch.setattr(os, "rename", rename)
        download.write(b"hello world")
        with pytest.raises(StoreFull):
            download.commit()
    assert modes == [0o600]
    with store.blobs.partial(DIGEST) as download:
        assert download.size == 11
        download.commit()
    assert store.blobs.get(DIGEST) == b"hello world"


def test_a_blob_from_a_download_is_read_only(store: Store) -> None:
    with store.blobs.partial(DIGEST) as download:
        download.write(b"hello world")
        download.commit()
    assert store.blobs.path(DIGEST).stat().st_mode & 0o777 == 0o444


def test_one_who_is_stopped_on_coming_in_leaves_the_download_to_the_next(store: Store) -> None:
    with store.blobs.partial(DIGEST) as download:
        download.write(b"hello ")

    def stop() -> None:
        raise KeyboardInterrupt

    with stopping.checking(stop), pytest.raises(KeyboardInterrupt), store.blobs.partial(DIGEST):
        pass
    with store.blobs.partial(DIGEST, timeout=0) as download:
        assert download.size == 6
