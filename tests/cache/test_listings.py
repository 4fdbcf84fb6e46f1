"""Two listings of files compared as streams give what a comparison of whole tables gives."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from minibuild.cache.listings import DETAILS, Listing, files_cause, listing_of
from minibuild.context.digests import read_listing

Files = dict[bytes, bytes]
NAMES = st.sampled_from([b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a.txt", b"b", b"b/a", b"new\nline", b"\xff"])
RESTS = st.sampled_from(
    [
        b"0 644 0:0 0123456789ab",
        b"0 644 0:0 0123456789ab" + b"0" * 52,  # as listings had it once
        b"0 755 0:0 0123456789ab",
        b"0 644 0:0 ffffffffffff",
        b"0 644 1:1 ffffffffffff",
        b"2 777 0:0 to where",
        b"5 755 0:0 ",
        b"5 700 0:0 ",
    ]
)
LINES = st.lists(st.tuples(NAMES, RESTS), max_size=12, unique_by=lambda pair: pair[0])


def short(rest: bytes) -> bytes:
    return rest[:22] if rest.startswith(b"0 ") else rest


def named(old: Files, new: Files) -> list[str]:
    """Kind and path of each difference, in the order that they are told."""
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    come, gone = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    if len(changed) + len(come) + len(gone) > 1:
        come, gone = [name for name in come if name], [name for name in gone if name]
    groups = zip("MAD", (changed, come, gone), strict=True)
    found = [(kind, name.decode("utf-8", "surrogateescape")) for kind, names in groups for name in names]
    return [f"{kind} {name or ('.' if kind == 'M' else '')}" for kind, name in found]


def lines_of(lines: list[tuple[bytes, bytes]]) -> Listing:
    """A listing in the order given, which is that of wildcards at worst."""
    return lambda: (b"%b\0%b" % pair for pair in lines)


@given(st.lists(LINES, max_size=3), st.lists(LINES, max_size=3))
def test_the_differences_of_lines_in_any_order_are_found(
    old: list[list[tuple[bytes, bytes]]], new: list[list[tuple[bytes, bytes]]]
) -> None:
    was, now = ({name: short(rest) for lines in lists for name, rest in lines} for lists in (old, new))
    found = files_cause([lines_of(one) for one in old], [lines_of(one) for one in new])
    told = [] if found is None else [line.partition("  ")[0] for line in found.cause.details]
    assert told == named(was, now)
    assert found is None or found.left == 0


@given(st.dictionaries(NAMES, RESTS), st.dictionaries(NAMES, RESTS))
def test_a_changed_file_comes_before_a_changed_folder(old: Files, new: Files) -> None:
    found = files_cause([listing_of(old)], [listing_of(new)])
    files = [
        name
        for name in sorted(old.keys() & new.keys())
        if short(old[name]) != short(new[name]) and old[name][:1] != b"5"
    ]
    if files:
        assert found is not None
        assert found.cause.reason.startswith(
            files[0].decode("utf-8", "surrogateescape") or "the folder itself"
        )


def test_of_very_many_differences_the_first_are_told_and_the_rest_counted() -> None:
    def listing(digest: bytes) -> Listing:
        return lambda: (b"d/%06d\x000 644 0:0 %b" % (number, digest) for number in range(10_000))

    found = files_cause([listing(b"a" * 12)], [listing(b"b" * 12)])
    assert found is not None
    assert found.cause.reason == "d/000000 changed (and 9999 more)"
    assert len(found.cause.details) == DETAILS and found.left == 10_000 - DETAILS


def test_listings_are_compared_without_being_held() -> None:
    def packed(touched: int) -> bytes:
        lines = (b"d/%06d\x000 644 0:0 %012d" % (n, n + (n == touched)) for n in range(100_000))
        return zlib.compress(b"\n".join(lines), 1)

    old, new = packed(5), packed(70_000)
    tracemalloc.start()
    try:
        found = files_cause([lambda: read_listing(old)], [lambda: read_listing(new)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None and found.cause.reason == "d/000005 changed (and 1 more)"
    assert peak < 2 << 20


@given(st.lists(st.tuples(NAMES, RESTS)))
def test_a_name_may_hold_a_line_end(lines: list[tuple[bytes, bytes]]) -> None:
    def written() -> Iterator[bytes]:
        return (b"%b\0%b" % pair for pair in lines)

    assert list(read_listing(zlib.compress(b"\n".join(written())))) == list(written())
