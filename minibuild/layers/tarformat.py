"""What the blocks of a tar stream say: header fields, pax records, sparse maps. No I/O.

Formats: POSIX ustar and pax (pax(1), "ustar Interchange Format" and "pax Header Block"), GNU tar
(base-256 numbers, sparse maps of the old GNU and the pax kinds 0.0, 0.1 and 1.0), star's prefix.
Every fault of the input is a `LayerError`.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

from minibuild.errors import LayerError
from minibuild.values import NamedTuple

BLOCK = 512
PATH_MAX = 4096
SIZE_MAX = 2**63 - 1
SPARSE_MAX = 1_000_000  # extents of one file: each costs memory out of proportion to its bytes
_ID_MAX = 2**32 - 2  # 2**32 - 1 means "leave as is" to chown
_TIME_MAX = 2**63 - 1

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12s")
_CHECKSUM_SPACES = 8 * 0x20
_ADLER_MOD = 65521


class Header(NamedTuple):
    """The fields of one 512-byte header, not yet overridden by extended headers."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int  # seconds
    flag: bytes
    link: bytes
    device: tuple[bytes, bytes]  # fields as they stand: only device nodes have numbers there


_header = Header._make


def show(name: bytes) -> str:
    """A name for people: readable, and unambiguous where it is not UTF-8."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else text[:200] + "…")


def parse_header(buffer: bytes, at: int) -> Header:
    """The header block at offset `at` of `buffer`; its checksum is verified."""
    name, mode, uid, gid, size, mtime, checksum, flag, link, magic, major, minor, prefix, tail = (
        _FIELDS.unpack_from(buffer, at)
    )
    _verify(buffer[at : at + BLOCK], checksum)
    name = name.partition(b"\0")[0]
    if prefix[0] and magic[:6] == b"ustar\0":
        prefix = (prefix[:131] if tail[-4:] == b"tar\0" else prefix).partition(b"\0")[0]
        name = prefix + b"/" + name
    try:
        return _header(
            (
                name,
                _often(mode),
                _often(uid),
                _often(gid),
                number(size),
                _often(mtime),
                flag,
                link.partition(b"\0")[0],
                (major, minor),
            )
        )
    except ValueError as error:
        raise LayerError(f"the archive's header of {show(name)} is malformed: {error}") from None


def _verify(block: bytes, field: bytes) -> None:
    # Adler-32's low half is 1 + the sum of the bytes (mod 65521): a byte sum at C speed.
    low = zlib.adler32(block) & 0xFFFF
    try:
        stated = number(field)
    except ValueError:
        raise LayerError("it is no tar archive, or is damaged: bad header checksum") from None
    expect = stated - _CHECKSUM_SPACES + sum(field)
    if 0 <= expect < _ADLER_MOD and (low - 1) % _ADLER_MOD == expect:
        return
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(rest) - 256 * sum(byte >= 128 for byte in rest)  # historic tars summed signed chars
    if stated not in (sum(rest), signed):
        raise LayerError("it is no tar archive, or is damaged: bad header checksum")


def number(field: bytes) -> int:
    """A numeric header field: octal digits, or GNU's base-256. Raises ValueError."""
    text = field.strip(b" \0")
    if text.isdigit():
        return int(text, 8)
    if not text:
        return 0
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    text = text.partition(b"\0")[0].strip(b" ")
    if text.isdigit():
        return int(text, 8)
    raise ValueError(f"{field!r} is not a number")


# of fields that say the same in header after header
_often = lru_cache(256)(number)


def decimal(value: bytes) -> int:
    """A decimal number of a pax record or sparse map, 0 to 2**63 - 1. Raises ValueError."""
    if not value.isdigit() or len(value) > 20:
        raise ValueError(f"{value[:40]!r} is not a number")
    return int(value)


def owner(value: int) -> int:
    """A user or group id that the kernel can take. Raises ValueError."""
    if not 0 <= value <= _ID_MAX:
        raise ValueError(f"the owner {value} is out of range")
    return value


def seconds_to_ns(seconds: int) -> int:
    """Nanoseconds; a time that does not fit 64 bits is the epoch, as it is to containerd."""
    ns = seconds * 1_000_000_000
    return ns if -_TIME_MAX <= ns <= _TIME_MAX else 0


def pax_time(value: bytes) -> int:
    """A pax time, ``-1.5`` or ``1700000000.123456789``, in nanoseconds. Raises ValueError."""
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or len(whole) > 40:
        raise ValueError(f"{value[:40]!r} is not a time")
    ns = int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    if ns > _TIME_MAX:
        return 0
    return -ns if value[:1] == b"-" else ns


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The ``length key=value`` records of a pax header, in order. Raises ValueError."""
    records = []
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + 20)
        length = data[at:space]
        if space < 0 or not length.isdigit():
            raise ValueError("a pax record has no length")
        stop = at + int(length)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A:
            raise ValueError("a pax record has a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not key or not equals:
            raise ValueError("a pax record has no keyword")
        records.append((key, value))
        at = stop
    return records


def clean_path(name: bytes) -> bytes:
    """`name` as an `Entry.path`: no ``.``, ``..`` or empty part, no slash at either end.

    An absolute name is taken from the layer's root, as containerd does. Raises `LayerError`
    for a name that is empty, too long, holds a NUL, or climbs above the root.
    """
    if name.startswith(b"./"):
        name = name[2:] or b"."
    path = name.removesuffix(b"/")
    if not path or path[0] in b"./" or b"/." in path or b"//" in path or b"\0" in path:
        path = _clean_slowly(name)
    if len(path) >= PATH_MAX:
        raise LayerError(f"the archive's entry {show(path)} has a name longer than {PATH_MAX} bytes")
    return path


def _clean_slowly(name: bytes) -> bytes:
    if not name:
        raise LayerError("the archive has an entry with an empty name")
    if b"\0" in name:
        raise LayerError(f"the archive's entry {show(name)} has a NUL in its name")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise LayerError(
                    f"the archive's entry {show(name)} points outside the root filesystem",
                    cure="The image is hostile or damaged: do not use it.",
                )
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def clip_path(name: bytes) -> bytes:
    """`clean_path` of a name that may climb above the root: it stays there, as under chroot(2)."""
    if b".." not in name:
        return clean_path(name)
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        else:
            parts.append(part)
    return clean_path(b"/".join(parts) or b".")


Extents = list[tuple[int, int]]  # (offset in the file, length), ascending; gaps are holes


def check_extents(extents: Extents, size: int, stored: int) -> Extents:
    """`extents` of a sparse file of `size` bytes with `stored` bytes in the archive. Raises ValueError."""
    at = total = 0
    for offset, length in extents:
        if offset < at or length < 0 or offset + length > size:
            raise ValueError("its sparse map is not in order or exceeds the file")
        at = offset + length
        total += length
    if total != stored:
        raise ValueError("its sparse map does not match its content")
    return [extent for extent in extents if extent[1]]


def old_sparse(block: bytes, first: bool) -> tuple[Extents, bool]:
    """Extents of a GNU ``S`` header (`first`) or of an extension block, and whether one more follows."""
    at, count, more = (386, 4, 482) if first else (0, 21, 504)
    extents = []
    for start in range(at, at + count * 24, 24):
        if not block[start]:
            break
        extents.append((number(block[start : start + 12]), number(block[start + 12 : start + 24])))
    return extents, block[more] != 0


def pax_sparse(records: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> Extents:
    """The map of pax sparse 0.0 (repeated records) or 0.1 (one list). Raises ValueError."""
    if b"GNU.sparse.map" in fields:
        text = fields[b"GNU.sparse.map"]
        numbers = [decimal(part) for part in text.split(b",")] if text else []
        offsets, lengths = numbers[::2], numbers[1::2]
    else:
        offsets = [decimal(value) for key, value in records if key == b"GNU.sparse.offset"]
        lengths = [decimal(value) for key, value in records if key == b"GNU.sparse.numbytes"]
    if len(offsets) != len(lengths):
        raise ValueError("its sparse map is incomplete")
    return list(zip(offsets, lengths, strict=True))
