"""What a layer holds, without its contents: every entry, packed so that it loads in milliseconds.

The layout is one column per field, so that loading is a handful of copies and no row is built
before it is asked for::

    magic "mbli" and version (u32)
    sections, each: length (u32), bytes, padding to 4
        counts     rows (u32), extras (u32), files (u32)
        paths      NUL between
        links      NUL between; empty where the entry is neither a link nor a symlink
        kinds      u8, the tar type flag
        modes      u16
        uids       u32
        gids       u32
        sizes      u64
        seconds    i64, mtime, rounded down
        nanos      u32, the rest of it
        extras     device numbers and xattrs of the few rows that have them
        files      path and content of the kept files

Numbers are little-endian. Equal entries give equal bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, overload

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind

VERSION: Final = 1
# Read while a layer is written or scanned: who a user name is must be known without the layer.
KEPT_FILES: Final = frozenset((b"etc/passwd", b"etc/group"))
KEPT_SIZE: Final = 4 << 20

_HEAD: Final = struct.Struct("<4sI")
_MAGIC: Final = b"mbli"
_U32: Final = struct.Struct("<I")
_COUNTS: Final = struct.Struct("<3I")
_EXTRA: Final = struct.Struct("<4I")  # row, major, minor, number of xattrs
_PAIR: Final = struct.Struct("<2I")  # lengths of a name and a value
_SECONDS: Final = 1_000_000_000
_BLOCK: Final = 1 << 20
_KINDS: Final = {ord(kind.value): kind for kind in Kind}
_NO_DEVICE: Final = (0, 0)
_Extra = tuple[tuple[int, int], tuple[tuple[bytes, bytes], ...]]  # device, xattrs
_COLUMNS: Final = "BHIIQqI"  # kind, mode, uid, gid, size, seconds, nanos
_SECTIONS: Final = 3 + len(_COLUMNS) + 2


class IndexBuilder:
    """Collects entries in tar order; memory is that of the names and 29 bytes an entry."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self._count = 0
        self._paths = bytearray()  # each with a NUL behind it
        self._links = bytearray()
        self._columns = tuple(array(code) for code in _COLUMNS)
        self._appends = tuple(column.append for column in self._columns)
        self._extras: list[bytes] = []

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry) -> None:
        """Take the next entry; raises `LayerError` where a field is out of range."""
        path, kind, mode, uid, gid, size, mtime_ns, link, device, xattrs = entry
        seconds, nanos = divmod(mtime_ns, _SECONDS)
        add_kind, add_mode, add_uid, add_gid, add_size, add_seconds, add_nanos = self._appends
        try:
            add_mode(mode)
            add_uid(uid)
            add_gid(gid)
            add_size(size)
            add_seconds(seconds)
        except OverflowError:
            raise LayerError(f"{path!r} has an owner, mode, size or time no file can have") from None
        add_nanos(nanos)
        add_kind(ord(kind))
        if device != _NO_DEVICE or xattrs:
            self._extras.append(_pack_extra(self._count, device, xattrs))
        self._count += 1
        self._paths += path + b"\0"
        self._links += link + b"\0"

    def dump(self) -> bytearray:
        """The packed index. It takes the place of what was collected: the builder is of no use after it."""
        if {self._paths.count(b"\0"), self._links.count(b"\0")} != {self._count}:
            raise LayerError("a name in the layer holds a NUL byte")
        del self._paths[-1:], self._links[-1:]
        extras = len(self._extras)
        packed, self._paths = self._paths, bytearray()
        length = len(packed)
        packed[:0] = _packed_head(self._count, extras, len(self.files)) + _U32.pack(length)
        packed += bytes(-length % 4)
        _add_section(packed, self._links)
        for column in self._columns:
            _add_section(packed, memoryview(_little_endian(column)).cast("B"))
            del column[:]
        _add_section(packed, b"".join(self._extras))
        _add_section(packed, _packed_files(self.files))
        return packed

    def build(self) -> LayerIndex:
        return LayerIndex.load(self.dump())


class LayerIndex:
    """The entries of one layer in tar order; `files` has the content of etc/passwd and etc/group.

    `paths` is a plain list as long as `entries` and cheaper than asking each entry for its own.
    """

    __slots__ = ("entries", "files", "paths")

    def __init__(self, entries: Entries, files: Mapping[bytes, bytes]) -> None:
        self.entries = entries
        self.paths: list[bytes] = entries.paths
        self.files = files

    @classmethod
    def of(cls, entries: Iterable[Entry], files: Mapping[bytes, bytes] | None = None) -> LayerIndex:
        """The index of these entries."""
        builder = IndexBuilder()
        for entry in entries:
            builder.add(entry)
        builder.files.update(files or {})
        return builder.build()

    @classmethod
    def load(cls, data: bytes | bytearray) -> LayerIndex:
        """Unpack what `dump` gave; raises `LayerError` where it is not that, or of another version."""
        try:
            return _load(data)
        except (struct.error, ValueError, IndexError) as error:
            raise LayerError(f"the index of a layer is damaged: {error}") from None

    def dump(self) -> bytearray:
        """The packed form, made anew; equal for equal entries and files."""
        packed = _packed_head(len(self.paths), self.entries.extras, len(self.files))
        for section in self.entries.sections():
            _add_section(packed, section)
        _add_section(packed, _packed_files(self.files))
        return packed


class Entries(Sequence[Entry]):
    """The rows of an index; each is built when asked for and not kept."""

    __slots__ = ("_columns", "_extras", "_links", "paths")

    def __init__(
        self,
        paths: list[bytes],
        links: list[bytes],
        columns: tuple[array[int], ...],
        extras: Mapping[int, _Extra],
    ) -> None:
        self.paths = paths
        self._links = links
        self._columns = columns
        self._extras = extras

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def extras(self) -> int:
        """How many rows have a device number or extended attributes."""
        return len(self._extras)

    def sections(self) -> Iterator[bytes | memoryview]:
        """Those of the packed form from the paths to the extras."""
        yield b"\0".join(self.paths)
        yield b"\0".join(self._links)
        for column in self._columns:
            yield memoryview(_little_endian(column)).cast("B")
        yield b"".join(_pack_extra(row, *self._extras[row]) for row in sorted(self._extras))

    def count_of(self, kind: Kind) -> int:
        """How many entries are of `kind`."""
        return self._columns[0].count(ord(kind.value))

    def kind(self, row: int) -> Kind:
        """The kind of entry `row`."""
        return _KINDS[self._columns[0][row]]

    @overload
    def __getitem__(self, row: int) -> Entry: ...

    @overload
    def __getitem__(self, row: slice) -> list[Entry]: ...

    def __getitem__(self, row: int | slice) -> Entry | list[Entry]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        path = self.paths[row]
        kinds, modes, uids, gids, sizes, seconds, nanos = self._columns
        device, xattrs = self._extras.get(row if row >= 0 else row + len(self), (_NO_DEVICE, ()))
        return Entry(
            path,
            _KINDS[kinds[row]],
            modes[row],
            uids[row],
            gids[row],
            sizes[row],
            seconds[row] * _SECONDS + nanos[row],
            self._links[row],
            device,
            xattrs,
        )

    def __iter__(self) -> Iterator[Entry]:
        extras = self._extras
        new = Entry._make
        plain: _Extra = (_NO_DEVICE, ())
        for row, (path, kind, mode, uid, gid, size, second, nano, link) in enumerate(
            zip(self.paths, *self._columns, self._links, strict=True)
        ):
            device, xattrs = extras.get(row, plain)
            mtime = second * _SECONDS + nano
            yield new((path, _KINDS[kind], mode, uid, gid, size, mtime, link, device, xattrs))


def _pack_extra(row: int, device: tuple[int, int], xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    try:
        head = _EXTRA.pack(row, *device, len(xattrs))
    except struct.error:
        raise LayerError(f"{device} is no device number") from None
    return head + b"".join(_pack_pair(name, value) for name, value in xattrs)


def _packed_files(files: Mapping[bytes, bytes]) -> bytes:
    return b"".join(_pack_pair(path, files[path]) for path in sorted(files))


def _packed_head(rows: int, extras: int, files: int) -> bytearray:
    packed = bytearray(_HEAD.pack(_MAGIC, VERSION))
    _add_section(packed, _COUNTS.pack(rows, extras, files))
    return packed


def _add_section(packed: bytearray, section: bytes | bytearray | memoryview) -> None:
    packed += _U32.pack(len(section))
    packed += section
    packed += bytes(-len(section) % 4)


def _pack_pair(name: bytes, value: bytes) -> bytes:
    return _PAIR.pack(len(name), len(value)) + name + value


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return column
    swapped = column[:]
    swapped.byteswap()
    return swapped


def _load(data: bytes | bytearray) -> LayerIndex:
    magic, version = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise ValueError(f"starts with {magic!r} version {version}, want {_MAGIC!r} version {VERSION}")
    counts, paths, links, *columns, extras, files = _sections(data)
    rows, extra_count, file_count = _COUNTS.unpack(counts)
    path_list = list(_texts(paths)) if rows else []
    link_list = list(_texts(links)) if rows else []
    arrays = tuple(_column(code, section) for code, section in zip(_COLUMNS, columns, strict=True))
    if {len(path_list), len(link_list), *map(len, arrays)} != {rows}:
        raise ValueError("the columns differ in length")
    if set(arrays[0]) - _KINDS.keys():
        raise ValueError("an entry is of no known type")
    entries = Entries(path_list, link_list, arrays, _load_extras(bytes(extras), extra_count))
    kept, position = _load_pairs(bytes(files), 0, file_count)
    if position != len(files):
        raise ValueError("bytes are left over")
    return LayerIndex(entries, dict(kept))


def _texts(section: memoryview) -> Iterator[bytes]:
    """What stands between NULs, a block at a time: no second copy of all of it."""
    left = b""
    for start in range(0, len(section), _BLOCK):
        *texts, left = (left + section[start : start + _BLOCK]).split(b"\0")
        yield from texts
    yield left


def _sections(data: bytes | bytearray) -> list[memoryview]:
    view = memoryview(data)
    position = _HEAD.size
    sections = []
    for _ in range(_SECTIONS):
        (length,) = _U32.unpack_from(data, position)
        position += _U32.size
        sections.append(view[position : position + length])
        position += length + -length % 4
    if position != len(data):
        raise ValueError(f"is {len(data)} bytes, want {position}")
    return sections


def _column(code: str, section: memoryview) -> array[int]:
    column: array[int] = array(code)
    column.frombytes(section)
    return _little_endian(column)


def _load_extras(data: bytes, count: int) -> dict[int, _Extra]:
    extras = {}
    position = 0
    for _ in range(count):
        row, major, minor, pairs = _EXTRA.unpack_from(data, position)
        xattrs, position = _load_pairs(data, position + _EXTRA.size, pairs)
        extras[row] = ((major, minor), xattrs)
    if position != len(data):
        raise ValueError("bytes are left over")
    return extras


def _load_pairs(data: bytes, position: int, count: int) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    pairs = []
    for _ in range(count):
        name_length, value_length = _PAIR.unpack_from(data, position)
        middle = position + _PAIR.size + name_length
        position = middle + value_length
        if position > len(data):
            raise ValueError("a value is cut short")
        pairs.append((data[middle - name_length : middle], data[middle:position]))
    return tuple(pairs), position
