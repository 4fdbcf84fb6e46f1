"""Tar headers for layer entries: ustar, with a pax header where ustar cannot hold a field (pax(1)).

Times are whole seconds, rounded down, as containerd writes them. User and group names are empty.
The bytes are a function of the entry.
"""

from __future__ import annotations

from typing import Final
from zlib import adler32

from minibuild.layers.entry import Entry, Kind

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)

# a member read from its class is slow
_FILE: Final = Kind.FILE
_DIR: Final = Kind.DIR
_SECOND: Final = 1_000_000_000
_NAME: Final = 100
_PREFIX: Final = 155
_LARGEST_ID: Final = 0o7777777
_LARGEST: Final = 0o77777777777
_NO_DEVICE: Final = (0, 0)
_NAME_PADDING: Final = [bytes(_NAME - length) for length in range(_NAME + 1)]
_NUMBERS: Final = b"%b%b%07o\0%07o\0%07o\0%011o\0%011o\0"  # name, padding, mode, uid, gid, size, mtime
_CHECKSUM: Final = b"%06o\0 "
_CHECKSUM_AS_SPACES: Final = 8 * 0x20
_MAGIC: Final = b"ustar\00000" + bytes(64)  # no names of user and group
_PAX_FLAG: Final = "x"
_XATTR: Final = b"SCHILY.xattr."
_BINARY: Final = (b"hdrcharset", b"BINARY")


def padding(size: int) -> int:
    """How many zero bytes follow `size` bytes of content."""
    return -size % BLOCK


def header(entry: Entry) -> bytes:
    """The header blocks of `entry`: 512 bytes, or with a pax header before them a multiple of it.

    The content of a regular file follows, then zeros up to a multiple of 512.
    """
    name, kind, mode, uid, gid, size, mtime_ns, link, device, xattrs = entry
    seconds = mtime_ns // _SECOND
    if kind is _DIR:
        name = name + b"/" if name else b"./"
    # one or two ASCII texts of at most 100 bytes: the sum of the bytes stays below Adler-32's modulus
    if (
        len(name) <= _NAME
        and len(link) <= _NAME
        and size <= _LARGEST
        and 0 <= seconds <= _LARGEST
        and 0 <= uid <= _LARGEST_ID
        and 0 <= gid <= _LARGEST_ID
        and not xattrs
        and device == _NO_DEVICE
        and name.isascii()
        and link.isascii()
    ):
        if kind is not _FILE:
            size = 0
        head = _NUMBERS % (name, _NAME_PADDING[len(name)], mode, uid, gid, size, seconds)
        tail = _tail(kind, link) if link else _TAILS[ord(kind)]
        checksum = (adler32(tail, adler32(head)) & 0xFFFF) - 1 + _CHECKSUM_AS_SPACES
        return head + _CHECKSUM % checksum + tail
    return _general(entry, name, seconds)


def _general(entry: Entry, name: bytes, seconds: int) -> bytes:
    records: dict[bytes, bytes] = {}
    name_field, prefix = _split(name)
    if not _fits(name, len(name_field) + len(prefix) + bool(prefix)):
        _set_text(records, b"path", name)
        name_field, prefix = name[:_NAME], b""
    if not _fits(entry.link, _NAME):
        _set_text(records, b"linkpath", entry.link)
    for xattr, value in entry.xattrs:
        records[_XATTR + pax_xattr_name(xattr)] = value
    head = _NUMBERS % (
        name_field,
        _NAME_PADDING[len(name_field)],
        entry.mode,
        _number(records, b"uid", entry.uid, _LARGEST_ID),
        _number(records, b"gid", entry.gid, _LARGEST_ID),
        _number(records, b"size", entry.size, _LARGEST) if entry.kind is _FILE else 0,
        _number(records, b"mtime", seconds, _LARGEST),
    )
    major = _number(records, b"SCHILY.devmajor", entry.device[0], _LARGEST_ID)
    minor = _number(records, b"SCHILY.devminor", entry.device[1], _LARGEST_ID)
    ustar = _sealed(head, _tail(entry.kind, entry.link[:_NAME], major, minor, prefix))
    return _pax(name, records) + ustar if records else ustar


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The name and prefix fields; together shorter than `name` where it cannot be split."""
    if len(name) <= _NAME:
        return name, b""
    # the slash between them is not stored; a directory's last one must stay in the name
    slash = name.rfind(b"/", 0, min(_PREFIX + 1, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > _NAME:
        return name[:_NAME], b""
    return name[slash + 1 :], name[:slash]


def _fits(text: bytes, room: int) -> bool:
    """Whether a ustar field of `room` bytes holds `text`.

    Text that is not UTF-8 has no place in a pax record, and every reader takes it raw.
    """
    return len(text) <= room and (text.isascii() or not _is_utf8(text))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _set_text(records: dict[bytes, bytes], key: bytes, text: bytes) -> None:
    records[key] = text
    if not _is_utf8(text):
        records.update([_BINARY])


def _number(records: dict[bytes, bytes], key: bytes, value: int, largest: int) -> int:
    """`value` for the ustar field, or 0 and a pax record."""
    if 0 <= value <= largest:
        return value
    records[key] = b"%d" % value
    return 0


def pax_xattr_name(name: bytes) -> bytes:
    """`name` as it stands in a pax key, where ``=`` would end it: as GNU tar writes ``%3D``, ``%25``.

    A plain ``%`` stays as it is, for readers that decode nothing.
    """
    if b"=" in name or b"%3D" in name or b"%25" in name:
        return name.replace(b"%", b"%25").replace(b"=", b"%3D")
    return name


def _pax(name: bytes, records: dict[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    base = name.rstrip(b"/").rpartition(b"/")[2]
    shown = b"PaxHeaders.0/" + bytes(byte for byte in base if 0x20 < byte < 0x7F)[:80]
    head = _NUMBERS % (shown, _NAME_PADDING[len(shown)], 0o644, 0, 0, len(data), 0)
    return _sealed(head, _tail(_PAX_FLAG, b"")) + data + bytes(padding(len(data)))


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(b"%d" % rest)
    length = rest + len(b"%d" % length)
    return b"%d %b=%b\n" % (length, key, value)


def _sealed(head: bytes, tail: bytes) -> bytes:
    return head + _CHECKSUM % (sum(head) + sum(tail) + _CHECKSUM_AS_SPACES) + tail


def _tail(flag: str, link: bytes, major: int = 0, minor: int = 0, prefix: bytes = b"") -> bytes:
    """Everything after the checksum; `flag` is a `Kind` or pax's."""
    return b"%b%b%b%b%07o\0%07o\0%b%b" % (
        flag.encode(),
        link,
        _NAME_PADDING[len(link)],
        _MAGIC,
        major,
        minor,
        prefix,
        bytes(_PREFIX - len(prefix) + 12),
    )


_TAILS: Final = {ord(kind): _tail(kind, b"") for kind in Kind}
