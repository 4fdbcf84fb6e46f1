"""Read a tar stream: every member as an `Entry` and its content, in one forward pass.

Headers are parsed out of the large pieces the source gives; nothing is read block by block and no
size that the archive states is ever allocated. Semantics where formats leave a choice are those of
Go's archive/tar, which containerd and BuildKit read layers with; pax global headers apply, as
pax(1) has it, to times, owners and extended attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from minibuild.errors import LayerError
from minibuild.layers.compress import CHUNK, Reader
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarblocks import Blocks, Body, truncated
from minibuild.layers.tarformat import (
    BLOCK,
    SIZE_MAX,
    SPARSE_MAX,
    Extents,
    Header,
    check_extents,
    clean_path,
    clip_path,
    decimal,
    number,
    old_sparse,
    owner,
    parse_header,
    pax_records,
    pax_sparse,
    pax_time,
    seconds_to_ns,
    show,
)

__all__ = ["Body", "TarReader"]

_LINK_MAX = 4095
_SPARSE_SIZE_MAX = 2**44  # ext4's limit; hashing holes costs time that the archive does not pay
_XATTR_MAX = 255
_DEVICE_MAX = 2**32 - 1
_ZERO_BLOCK = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
_NOT_GLOBAL = (b"path", b"linkpath", b"size", b"GNU.sparse.")

_DEVICES = (Kind.CHAR, Kind.BLOCK)
_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous
    b"S": Kind.FILE,  # GNU sparse
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIR,
    b"6": Kind.FIFO,
}


class _Extended:
    """What extended headers say about the next member."""

    __slots__ = ("fields", "link", "name", "records")

    def __init__(self) -> None:
        self.name = b""  # from GNU L
        self.link = b""  # from GNU K
        self.fields: dict[bytes, bytes] = {}
        self.records: list[tuple[bytes, bytes]] = []

    def take_pax(self, records: list[tuple[bytes, bytes]]) -> None:
        self.records = records
        self.fields = dict(records)


class TarReader(Blocks):
    """Iterate over ``(entry, body)``. The body is valid until the next step, and may be left unread.

    Names that climb above the root are refused, or with `clip` taken from the root.
    """

    def __init__(self, source: Reader, *, clip: bool = False) -> None:
        super().__init__(source)
        self._clean = clip_path if clip else clean_path
        self._globals: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[tuple[Entry, Body]]:
        body = Body(self)
        while (entry := self._next()) is not None:
            yield entry, body
        while self._source.read(CHUNK):  # what follows the end is not ours, but belongs to the stream
            pass

    # -- members

    def _next(self) -> Entry | None:
        if self._left or self._padding:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        self._extents, self._size = None, 0
        extended: _Extended | None = None
        while True:
            if not self._fill(BLOCK):
                if extended is not None or any(self._buffer[self._at :]):
                    raise truncated()
                self._at = self._end
                return None
            if not self._buffer[self._at] and self._buffer[self._at : self._at + BLOCK] == _ZERO_BLOCK:
                if extended is not None:
                    raise truncated()
                self._at += BLOCK
                if self._fill(BLOCK) and self._buffer[self._at : self._at + BLOCK] != _ZERO_BLOCK:
                    raise LayerError("the archive goes on behind an empty header")
                return None
            header = parse_header(self._buffer, self._at)
            self._at += BLOCK
            if header.flag in _KINDS:
                return self._member(header, extended)
            if header.flag not in b"xXgLK":
                raise LayerError(
                    f"the archive's entry {show(header.name)} has the unknown type {header.flag!r}"
                )
            if header.flag == b"g":
                self._take_global(self._take(header.size))
            else:
                extended = extended or _Extended()
                self._extend(extended, header)

    def _extend(self, extended: _Extended, header: Header) -> None:
        if header.size < 0:
            raise LayerError("the archive has an extended header of negative size")
        data = self._take(header.size)
        if header.flag == b"L":
            extended.name = data.partition(b"\0")[0]
        elif header.flag == b"K":
            extended.link = data.partition(b"\0")[0]
        else:
            extended.take_pax(_records(data))

    def _take_global(self, data: bytes) -> None:
        for key, value in _records(data):
            if key.startswith(_NOT_GLOBAL):
                continue
            if value:
                self._globals[key] = value
            else:
                self._globals.pop(key, None)

    def _member(self, header: Header, extended: _Extended | None) -> Entry:
        if extended is None and not self._globals:
            try:
                return self._plain(header)
            except ValueError as error:
                raise _malformed(header.name, error) from None
        extended = extended or _Extended()
        fields = {**self._globals, **extended.fields} if self._globals else extended.fields
        name = extended.name or fields.get(b"path") or header.name
        try:
            return self._extended(header, extended, fields, name)
        except ValueError as error:
            raise _malformed(name, error) from None

    def _plain(self, header: Header) -> Entry:
        """The entry of a member without extended headers."""
        name, mode, uid, gid, size, mtime, flag, link, device = header
        kind = _KINDS[flag]
        if kind is Kind.FILE:
            if flag == b"\0" and name.endswith(b"/"):
                kind, size = Kind.DIR, 0
            elif flag == b"S":
                size = self._open_old_sparse(size)
            else:
                self._open(size)
            return Entry(
                self._clean(name), kind, mode & 0o7777, owner(uid), owner(gid), size, seconds_to_ns(mtime)
            )
        return Entry(
            self._clean(name),
            kind,
            0o777 if kind is Kind.SYMLINK else mode & 0o7777,  # a link has no mode of its own on Linux
            owner(uid),
            owner(gid),
            0,
            seconds_to_ns(mtime),
            _link(kind, link, name, self._clean) if kind is Kind.SYMLINK or kind is Kind.HARDLINK else b"",
            _device(device) if kind is Kind.CHAR or kind is Kind.BLOCK else (0, 0),
        )

    def _extended(
        self, header: Header, extended: _Extended, fields: dict[bytes, bytes], name: bytes
    ) -> Entry:
        stored = decimal(fields[b"size"]) if fields.get(b"size") else header.size
        if b"GNU.sparse.major" in fields or b"GNU.sparse.size" in fields:
            name = fields.get(b"GNU.sparse.name") or name
        entry = self._plain(
            header._replace(
                name=name,
                link=extended.link or fields.get(b"linkpath") or header.link,
                uid=decimal(fields[b"uid"]) if fields.get(b"uid") else header.uid,
                gid=decimal(fields[b"gid"]) if fields.get(b"gid") else header.gid,
                size=stored,
            )
        )
        if fields.get(b"mtime"):
            entry = entry._replace(mtime_ns=pax_time(fields[b"mtime"]))
        xattrs = {_xattr_name(key): value for key, value in fields.items() if key.startswith(_XATTR)}
        if xattrs:
            entry = entry._replace(xattrs=tuple(sorted(xattrs.items())))
        if entry.kind in _DEVICES and fields.get(b"SCHILY.devmajor") and fields.get(b"SCHILY.devminor"):
            major, minor = decimal(fields[b"SCHILY.devmajor"]), decimal(fields[b"SCHILY.devminor"])
            entry = entry._replace(device=_in_range(major, minor))
        if entry.kind is Kind.FILE and any(key.startswith(b"GNU.sparse.") for key in fields):
            entry = entry._replace(size=self._open_pax_sparse(extended.records, fields, stored))
        return entry

    # -- content

    def _open(self, stored: int) -> None:
        if not 0 <= stored <= SIZE_MAX:
            raise ValueError(f"its size {stored} is out of range")
        self._left, self._padding, self._size = stored, -stored % BLOCK, stored

    def _open_old_sparse(self, stored: int) -> int:
        block = self._buffer[self._at - BLOCK : self._at]
        size = number(block[483:495])
        extents, more = old_sparse(block, first=True)
        while more:
            if not self._fill(BLOCK):
                raise truncated()
            following, more = old_sparse(self._buffer[self._at : self._at + BLOCK], first=False)
            self._at += BLOCK
            extents += following
            if len(extents) > SPARSE_MAX:
                raise ValueError("its sparse map is too long")
        return self._open_extents(extents, size, stored)

    def _open_pax_sparse(
        self, records: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], stored: int
    ) -> int:
        if fields.get(b"GNU.sparse.major", b"0") == b"0":
            size = decimal(fields.get(b"GNU.sparse.size", b""))
            return self._open_extents(pax_sparse(records, fields), size, stored)
        if (fields[b"GNU.sparse.major"], fields.get(b"GNU.sparse.minor")) != (b"1", b"0"):
            raise ValueError("its sparse format is unknown")
        size = decimal(fields.get(b"GNU.sparse.realsize", b""))
        extents, used = self._sparse_map(stored)
        return self._open_extents(extents, size, stored - used)

    def _sparse_map(self, stored: int) -> tuple[Extents, int]:
        """The map of pax sparse 1.0, which precedes the content, and the bytes it took."""
        numbers: list[int] = []
        want, used, rest = 1, 0, b""
        while len(numbers) < want:
            used += BLOCK
            if used > stored or len(rest) > BLOCK:
                raise ValueError("its sparse map is incomplete")
            if not self._fill(BLOCK):
                raise truncated()
            *lines, rest = (rest + self._buffer[self._at : self._at + BLOCK]).split(b"\n")
            self._at += BLOCK
            for line in lines:
                numbers.append(decimal(line))
                want = 1 + 2 * numbers[0]
                if want > 2 * SPARSE_MAX:
                    raise ValueError("its sparse map is too long")
                if len(numbers) == want:
                    break
        return list(zip(numbers[1::2], numbers[2::2], strict=True)), used

    def _open_extents(self, extents: Extents, size: int, stored: int) -> int:
        if not 0 <= size <= _SPARSE_SIZE_MAX:
            raise ValueError(f"its size {size} is out of range")
        self._open(stored)
        self._extents = check_extents(extents, size, stored)
        self._size = size
        return size


def _link(kind: Kind, target: bytes, name: bytes, clean: Callable[[bytes], bytes]) -> bytes:
    if not target or len(target) > _LINK_MAX or b"\0" in target:
        raise ValueError(f"its link target {show(target)} is empty, too long or holds a NUL")
    if kind is Kind.SYMLINK:
        return target
    try:
        return clean(target)
    except LayerError as error:
        raise LayerError(f"{error.message}, and {show(name)} is a hard link to it", cure=error.cure) from None


def _xattr_name(key: bytes) -> bytes:
    name = key[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")  # as GNU tar writes them
    if not name or len(name) > _XATTR_MAX or b"\0" in name:
        raise ValueError(f"{show(name)} is no name of an extended attribute")
    return name


def _device(fields: tuple[bytes, bytes]) -> tuple[int, int]:
    return _in_range(number(fields[0]), number(fields[1]))


def _in_range(major: int, minor: int) -> tuple[int, int]:
    if not (0 <= major <= _DEVICE_MAX and 0 <= minor <= _DEVICE_MAX):
        raise ValueError("its device numbers are out of range")
    return major, minor


def _records(data: bytes) -> list[tuple[bytes, bytes]]:
    try:
        return pax_records(data)
    except ValueError as error:
        raise LayerError(f"the archive has a malformed extended header: {error}") from None


def _malformed(name: bytes, error: ValueError) -> LayerError:
    return LayerError(f"the archive's entry {show(name)} is malformed: {error}")
