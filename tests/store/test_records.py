"""Records: small named values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minibuild_store.records import record_files
from minibuild_store.store import Store

anything = settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, database=None
)
names = st.text(st.characters(codec=None), max_size=40)


def only_file(root: Path, kind: str = "k") -> Path:
    (path,) = record_files(str(root / "records-v2" / kind))
    return Path(path)


@anything
@given(name=names, data=st.binary(max_size=400))
def test_what_is_put_is_got(store: Store, name: str, data: bytes) -> None:
    store.records("k").put(name, data)
    assert store.records("k").get(name) == data
    assert name in set(store.records("k").names())


@anything
@given(contents=st.dictionaries(names, st.binary(max_size=40), max_size=12))
def test_names_are_kept_apart(store: Store, contents: dict[str, bytes]) -> None:
    records = store.records("apart")
    for name in list(records.names()):
        records.delete(name)
    for name, data in contents.items():
        records.put(name, data)
    assert {name: records.get(name) for name in records.names()} == contents


def test_an_absent_record_is_none(store: Store) -> None:
    assert store.records("k").get("nothing") is None
    assert list(store.records("k").names()) == []


def test_kinds_are_kept_apart(store: Store) -> None:
    store.records("one").put("name", b"1")
    assert store.records("two").get("name") is None


@pytest.mark.parametrize("kind", ["", ".", "..", "a/b", ".hidden"])
def test_a_kind_is_a_word(store: Store, kind: str) -> None:
    with pytest.raises(ValueError, match="cannot name a kind"):
        store.records(kind)


def test_a_put_replaces(store: Store) -> None:
    store.records("k").put("name", b"a long first value")
    store.records("k").put("name", b"second")
    assert store.records("k").get("name") == b"second"


def test_a_mark_tells_whether_a_record_is_still_the_same(store: Store) -> None:
    records = store.records("k")
    assert records.mark("name") is None
    records.put("name", b"first")
    before = records.mark("name")
    records.put("name", b"first")
    assert records.mark("name") == before
    records.put("name", b"other")
    assert records.mark("name") not in (None, before)


def test_a_deleted_record_is_absent_and_absent_is_fine(store: Store) -> None:
    store.records("k").put("name", b"1")
    store.records("k").delete("name")
    assert store.records("k").get("name") is None
    store.records("k").delete("name")


def test_a_touch_is_seen_as_use(store: Store, root: Path) -> None:
    store.records("k").put("name", b"1")
    os.utime(only_file(root), (1, 1))
    (before,) = store.records("k").entries()
    store.records("k").touch("name")
    (after,) = store.records("k").entries()
    assert before.used_ns == 10**9
    assert after.used_ns > 10**18
    assert after.size == only_file(root).stat().st_size


def test_touching_an_absent_record_makes_none(store: Store) -> None:
    store.records("k").touch("name")
    assert list(store.records("k").names()) == []


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    database=None,
)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_record_with_one_wrong_bit_is_absent(store: Store, root: Path, position: int, bit: int) -> None:
    store.records("k").put("name", b"some data to be damaged")
    path = only_file(root)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert store.records("k").get("name") is None
    assert list(store.records("k").names()) == []


def test_a_record_cut_anywhere_is_absent(store: Store, root: Path) -> None:
    store.records("k").put("name", b"some data to be cut")
    path = only_file(root)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert store.records("k").get("name") is None
        path.write_bytes(whole[:length] + bytes(len(whole) - length))  # as a power cut leaves it
        assert store.records("k").get("name") is None


def test_a_record_with_more_behind_it_is_absent(store: Store, root: Path) -> None:
    store.records("k").put("name", b"data")
    with only_file(root).open("ab") as file:
        file.write(b"x")
    assert store.records("k").get("name") is None


def test_a_record_under_another_name_is_absent(store: Store, root: Path) -> None:
    store.records("k").put("name", b"data")
    source = only_file(root)
    store.records("other").put("foreign", b"x")
    source.replace(only_file(root, "other"))
    assert store.records("other").get("foreign") is None


def test_a_damaged_record_can_be_put_again(store: Store, root: Path) -> None:
    store.records("k").put("name", b"data")
    only_file(root).write_bytes(b"")
    store.records("k").put("name", b"data")
    assert store.records("k").get("name") == b"data"


def test_readers_see_one_whole_value_or_another(store: Store, other: Callable[[str], Any]) -> None:
    script = (
        "records = store.records('k'); data = b'%d' * 20_000\n"
        "for _ in range(400): records.put('name', data)\n"
        "say('done')\n"
    )
    store.records("k").put("name", b"0" * 20_000)
    writers = [other(script % number) for number in (1, 2)]
    seen = set()
    while any(one.process.poll() is None for one in writers):
        data = store.records("k").get("name")
        assert data is not None
        assert data == data[:1] * 20_000
        seen.add(data[:1])
    assert len(seen) > 1
    for one in writers:
        assert one.finish() == "done\n"


def test_a_lookup_takes_well_under_a_fifth_of_a_millisecond(store: Store) -> None:
    records = store.records("k")
    for number in range(2000):
        records.put(str(number), b"x" * 200)
    times = []
    for number in range(2000):
        start = time.perf_counter()
        records.get(str(number))
        times.append(time.perf_counter() - start)
    assert sorted(times)[1000] < 0.0002
