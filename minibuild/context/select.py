"""Which files a COPY takes from a view: patterns, ``--parents``, ``--exclude``, links inside the root.

The rules are those of BuildKit's copy (fsutil): a pattern's wildcards match as Go's filepath.Match, a
match that is a symlink is followed, links found below a match are copied as links.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from minibuild.context.rows import Head, Match, Row, View
from minibuild.errors import DockerfileError
from minibuild.layers.entry import Kind

if TYPE_CHECKING:
    from minibuild.dockerfile.patterns import PatternList

_WILDCARDS = frozenset("*?[")


class NothingThere(DockerfileError):
    """A path that a COPY names is not in its source; `path` is relative to the source's root."""

    def __init__(self, path: str) -> None:
        super().__init__(f'"/{path}": not found')
        self.path = path


def select(view: View, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False) -> list[Match]:
    """The matches of `pattern`, in order; raises `NothingThere` where a plain path does not exist."""
    return held(selected(view, pattern, exclude=exclude, parents=parents))


def held(items: Iterable[Head | Row]) -> list[Match]:
    """Heads, each followed by its rows, as matches."""
    matches: list[Match] = []
    for item in items:
        if isinstance(item, Head):
            matches.append(Match(item.name, [], item.whole))
        else:
            matches[-1].rows.append(item)
    return matches


def selected(
    view: View, pattern: str, *, exclude: tuple[str, ...] = (), parents: bool = False
) -> Iterator[Head | Row]:
    """The same row by row: a head for each match, followed by its rows."""
    if parents:
        yield from parents_of(view, pattern, exclude=exclude)
        return
    excluded = patterns(exclude)
    for path in matching(view, pattern):
        yield from _match(view, path, excluded)


def single(pattern: str, *, parents: bool = False) -> bool:
    """Whether `pattern` has one match at most, by its form."""
    before, pivot, _ = pattern.partition("/./")
    return not split_wildcards((before if pivot else "") if parents else pattern)[1]


def patterns(texts: tuple[str, ...]) -> PatternList | None:
    """What matches one of `texts`, None where there are none."""
    if not texts:
        return None
    from minibuild.dockerfile.patterns import PatternList

    return PatternList(texts)


def matching(view: View, pattern: str) -> list[bytes]:
    """The paths that `pattern` matches; one without wildcards as it is, there or not."""
    base, wild = split_wildcards(pattern)
    if not wild:
        return [base]
    resolved = view.resolve(base)
    if view.entry(resolved) is None:
        raise NothingThere(os.fsdecode(base))
    return _glob(view, resolved, wild)


def split_wildcards(pattern: str) -> tuple[bytes, str]:
    """The leading part of `pattern` without wildcards, cleaned, and the rest from the first wildcard on."""
    parts = posixpath.normpath("/" + pattern).lstrip("/").split("/")
    for index, part in enumerate(parts):
        if has_wildcard(part):
            return os.fsencode("/".join(parts[:index])), "/".join(parts[index:])
    return os.fsencode("/".join(parts)), ""


def has_wildcard(text: str) -> bool:
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in _WILDCARDS:
            return True
    return False


def _glob(view: View, base: bytes, wild: str) -> list[bytes]:
    from minibuild.dockerfile.gomatch import match as go_match

    depth = wild.count("/")
    found: list[bytes] = []

    def search(folder: bytes, relative: str, level: int) -> None:
        for name in view.names(folder):
            path = folder + b"/" + name if folder else name
            below = posixpath.join(relative, os.fsdecode(name))
            if level == depth:
                if go_match(wild, below):
                    found.append(path)
                continue
            entry = view.entry(path)
            if entry is not None and entry.kind == Kind.DIR:
                search(path, below, level + 1)

    entry = view.entry(base)
    if entry is not None and entry.kind == Kind.DIR:
        search(base, "", 0)
    return found


def _match(view: View, path: bytes, excluded: PatternList | None) -> Iterator[Head | Row]:
    resolved = view.resolve(path)
    if view.entry(resolved) is None:
        raise NothingThere(os.fsdecode(path))
    yield Head(path.rpartition(b"/")[2], not resolved)
    rows = view.walk(resolved)
    yield from rows if excluded is None else _without(rows, excluded)


def _without(rows: Iterator[Row], excluded: PatternList) -> Iterator[Row]:
    """Leave out what `excluded` matches; an excluded folder stays away unless something below it is kept."""
    return _chosen(rows, lambda path: not excluded.matches(path))


def _chosen(rows: Iterator[Row], wanted: Callable[[str], bool]) -> Iterator[Row]:
    """The root, what is `wanted`, and the folders that lead there."""
    waiting: list[Row] = []
    for row in rows:
        path = row.entry.path
        if not path:
            yield row
            continue
        waiting = [parent for parent in waiting if path.startswith(parent.entry.path + b"/")]
        if wanted(os.fsdecode(path)):
            yield from waiting
            waiting = []
            yield row
        elif row.entry.kind == Kind.DIR:
            waiting.append(row._replace(leads=True))


def parents_of(view: View, pattern: str, *, exclude: tuple[str, ...] = ()) -> Iterator[Head | Row]:
    """``--parents``: each folder before ``/./`` (or the root), reduced to what the rest matches."""
    excluded = patterns(exclude)
    pivot, separator, rest = pattern.partition("/./")
    if not separator:
        pivot, rest = "", pattern
    rest = posixpath.normpath("/" + rest).lstrip("/")
    plain = not has_wildcard(pivot) and not has_wildcard(rest)
    if plain:
        _require(view, posixpath.normpath(f"/{pivot}/{rest}").lstrip("/"))
    included = patterns((rest,) if rest else ())
    for path in matching(view, pivot):
        root = view.resolve(path)
        entry = view.entry(root)
        if entry is None:
            raise NothingThere(os.fsdecode(path))
        if entry.kind != Kind.DIR:
            continue
        rows = view.walk(root) if included is None else _towards(view, root, rest)
        if included is not None or excluded is not None:
            rows = _chosen(rows, _both(included, excluded))
        found = not plain
        wanted = os.fsencode(rest)
        yield Head(b"", not root)
        for row in rows:
            found = found or row.entry.path.startswith(wanted)
            if not root:
                _require_target(view, row)
            yield row
        if not found:
            raise NothingThere(rest)


def _require_target(view: View, row: Row) -> None:
    """Raise `NothingThere` for a link in the root that leads nowhere: BuildKit follows those alone."""
    path = row.entry.path
    if row.entry.kind == Kind.SYMLINK and b"/" not in path and view.entry(view.resolve(path)) is None:
        raise NothingThere(os.fsdecode(path))


def _both(included: PatternList | None, excluded: PatternList | None) -> Callable[[str], bool]:
    return lambda path: (
        (included is None or included.matches(path)) and not (excluded is not None and excluded.matches(path))
    )


def _towards(view: View, root: bytes, pattern: str) -> Iterator[Row]:
    """The rows below `root` that `pattern` could match: only what lies under its fixed part is walked."""
    fixed, wild = split_wildcards(pattern)
    if (wild and not fixed) or b"\\" in fixed:
        yield from view.walk(root)
        return
    yield from _alone(view, root, b"")
    parts = fixed.split(b"/")
    for depth in range(1, len(parts)):
        yield from _alone(view, root, b"/".join(parts[:depth]))
    start = root + b"/" + fixed if root else fixed
    if view.entry(start) is not None:
        for row in view.walk(start):
            path = fixed + b"/" + row.entry.path if row.entry.path else fixed
            yield row._replace(entry=row.entry._replace(path=path))


def _alone(view: View, root: bytes, relative: bytes) -> Iterator[Row]:
    """The row of one folder, without what lies below it."""
    path = b"/".join(part for part in (root, relative) if part)
    if view.entry(path) is not None:
        for row in islice(view.walk(path), 1):
            yield row._replace(entry=row.entry._replace(path=relative))


def _require(view: View, wanted: str) -> None:
    """Raise `NothingThere` unless there is something at exactly `wanted`, with no link on the way."""
    path = os.fsencode(wanted)
    parent = path.rpartition(b"/")[0]
    if not path or view.resolve(parent) != parent or view.entry(path) is None:
        raise NothingThere(wanted)
