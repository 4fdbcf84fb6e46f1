"""Two listings of files (`context.digests`) compared as streams: what differs, in words.

A listing comes in the order of a walk, so two of them are merged line by line, and of each kind of difference
only the first few are held. One in another order, as wildcards can give it, is held and sorted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from minibuild.cache.journal import Cause
from minibuild.values import NamedTuple

Listing = Callable[[], Iterator[bytes]]
"""Gives, from the start at each call, a line for each file: its path, NUL, type, mode, owner, content."""

DETAILS = 60
"""How many differences are told one by one."""

DIGITS = 12
"""Of a digest so many are compared: no more are in every listing."""

_Change = tuple[bytes, bytes, bytes]  # path, what it was, what it is
_TYPES = {"0": "file", "2": "link", "3": "device", "4": "device", "5": "folder", "6": "fifo"}


class FilesCause(NamedTuple):
    """`left` more differences are not among the details of `cause`."""

    cause: Cause
    left: int


class _Unsorted(Exception):
    """A listing is not in the order of a walk."""


class _First:
    """Counts what it is given and holds the first by path."""

    def __init__(self) -> None:
        self.count = 0
        self._held: list[_Change] = []

    def add(self, change: _Change) -> None:
        self.count += 1
        self._held.append(change)
        if len(self._held) > 4 * DETAILS:
            self._cut()

    def _cut(self) -> None:
        self._held = sorted(self._held)[: DETAILS + 1]  # the root may be left out

    def all(self) -> list[_Change]:
        self._cut()
        return self._held

    def forget_root(self) -> None:
        held = len(self._held)
        self._held = [change for change in self._held if change[0]]
        self.count -= held - len(self._held)


class _Line(NamedTuple):
    name: bytes
    rest: bytes
    place: bytes


class _Differences:
    def __init__(self) -> None:
        self.changed, self.files, self.come, self.gone = _First(), _First(), _First(), _First()

    def pair(self, old: _Line, new: _Line) -> None:
        """One path that is in both."""
        was, now = shortened(old.rest), shortened(new.rest)
        if was == now:
            return
        change = (old.name, was, now)
        self.changed.add(change)
        if not was.startswith(b"5"):
            self.files.add(change)


def files_cause(old: Sequence[Listing], new: Sequence[Listing]) -> FilesCause | None:
    """What differs between the files of all listings together, changed files first; None for nothing."""
    try:
        found = _compared(_together(old), _together(new))
    except _Unsorted:
        found = _compared(iter(_sorted(old)), iter(_sorted(new)))
    changed, come, gone = found.changed, found.come, found.gone
    if come.count + gone.count + changed.count > 1:  # whether the root is listed too is the least of it
        come.forget_root()
        gone.forget_root()
    count = changed.count + come.count + gone.count
    if not count:
        return None
    details = [_file_change(*change) for change in changed.all()]
    details += [f"A {os.fsdecode(name)}" for name, _, _ in come.all()]
    details += [f"D {os.fsdecode(name)}" for name, _, _ in gone.all()]
    del details[DETAILS:]
    groups = (("changed", found.files), ("changed", changed), ("is new", come), ("is gone", gone))
    verb, first = next((verb, group.all()[0]) for verb, group in groups if group.count)
    if verb == "changed" and _same_content(*first[1:]):
        verb = _metadata_change(*first[1:])
    more = f" (and {count - 1} more)" if count > 1 else ""
    what = os.fsdecode(first[0]) or "the folder itself"
    return FilesCause(Cause("files", f"{what} {verb}{more}", tuple(details)), count - len(details))


def _compared(old: Iterator[bytes], new: Iterator[bytes]) -> _Differences:
    """The differences of two streams of lines; raises `_Unsorted` where one of them is found to be that."""
    found = _Differences()
    last_old = last_new = None
    was, now = next(old, None), next(new, None)
    while was is not None or now is not None:
        if was == now:  # nearly all of them
            last_old = last_new = was
            was, now = next(old, None), next(new, None)
            continue
        before, after = _parsed(was, last_old), _parsed(now, last_new)
        if before is not None and after is not None and before.place == after.place:
            found.pair(before, after)
        elif before is not None and (after is None or before.place < after.place):
            found.gone.add((before.name, b"", b""))
            after = None
        elif after is not None:
            found.come.add((after.name, b"", b""))
            before = None
        if before is not None:
            last_old, was = was, next(old, None)
        if after is not None:
            last_new, now = now, next(new, None)
    return found


def _parsed(line: bytes | None, last: bytes | None) -> _Line | None:
    """The parts of a line, which must come after `last`."""
    if line is None:
        return None
    name, _, rest = line.rpartition(b"\0")
    place = _place(line)
    if last is not None and place <= _place(last):
        raise _Unsorted
    return _Line(name, rest, place)


def _place(line: bytes) -> bytes:
    """Sorts as a walk goes: a folder before what is in it, and that before its siblings."""
    return line.rpartition(b"\0")[0].replace(b"/", b"\0")


def listing_of(files: Mapping[bytes, bytes]) -> Listing:
    """The listing of `files`, path to the rest of a line."""
    lines = sorted((b"%b\0%b" % pair for pair in files.items()), key=_place)
    return lambda: iter(lines)


def files_of(listing: Listing, most: int) -> dict[bytes, bytes] | None:
    """Path to the rest of its line; None for more than `most`."""
    files: dict[bytes, bytes] = {}
    for line in listing():
        name, _, rest = line.rpartition(b"\0")
        files[name] = rest
        if len(files) > most:
            return None
    return files


def _together(listings: Sequence[Listing]) -> Iterator[bytes]:
    """The lines of all; of one path the last counts."""
    if len(listings) == 1:
        return listings[0]()
    from heapq import merge

    return _last_of_each(merge(*(listing() for listing in listings), key=_place))


def _last_of_each(lines: Iterable[bytes]) -> Iterator[bytes]:
    held, last = None, b""
    for line in lines:
        place = _place(line)
        if held is not None and place != last:
            if place < last:
                raise _Unsorted
            yield held
        held, last = line, place
    if held is not None:
        yield held


def _sorted(listings: Sequence[Listing]) -> list[bytes]:
    held = {_place(line): line for listing in listings for line in listing()}
    return [held[place] for place in sorted(held)]


def shortened(rest: bytes) -> bytes:
    """Type, mode, owner and content of a file, its digest cut; of other things as they are."""
    if not rest.startswith(b"0 "):
        return rest
    head, _, digest = rest.rpartition(b" ")
    return head + b" " + digest[:DIGITS]


def _fields(value: bytes) -> tuple[str, str, str, str]:
    """Type, mode, owner, content of one line of a listing."""
    kind, mode, owner, content = value.split(b" ", 3)
    return kind.decode(), mode.decode(), owner.decode(), os.fsdecode(content)


def _same_content(old: bytes, new: bytes) -> bool:
    before, after = _fields(old), _fields(new)
    return before[0] == after[0] and before[3] == after[3]


def _metadata_change(old: bytes, new: bytes) -> str:
    before, after = _fields(old), _fields(new)
    if before[1] != after[1]:
        return f"changed mode: {before[1]} → {after[1]}"
    return f"changed owner: {before[2]} → {after[2]}"


def _file_change(name: bytes, old: bytes, new: bytes) -> str:
    shown = os.fsdecode(name) or "."
    before, after = _fields(old), _fields(new)
    words = []
    if before[0] != after[0]:
        words.append(f"type {_TYPES.get(before[0], before[0])} → {_TYPES.get(after[0], after[0])}")
    elif before[3] != after[3]:
        what = "" if before[0] == "0" else "link "
        words.append(f"{what}{_digest(before)} → {_digest(after)}")
    if before[1] != after[1]:
        words.append(f"mode {before[1]} → {after[1]}")
    if before[2] != after[2]:
        words.append(f"owner {before[2]} → {after[2]}")
    return f"M {shown}  {', '.join(words)}"


def _digest(fields: tuple[str, str, str, str]) -> str:
    return f"sha256:{fields[3][:DIGITS]}" if fields[0] == "0" else fields[3]
