"""Java's key stores, as far as trusted certificates go.

JKS is what every Java reads: magic, version, count, entries, SHA-1 over password, a salt and all of that
(sun.security.provider.JavaKeyStore). Since Java 18 the store that comes along is a PKCS #12 without
password, from which the certificates are read; Java tells the two apart by content.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from minibuild.errors import LayerError
from minibuild.values import NamedTuple

PASSWORD: Final = "changeit"

MAGIC: Final = b"\xfe\xed\xfe\xed"
_SALT: Final = b"Mighty Aphrodite"
_DIGEST: Final = 20
_TRUSTED: Final = 2
# A certBag of an X.509 certificate (PKCS #12, 1.2.840.113549.1.9.22.1), then [0] and an octet string.
_CERT_BAG: Final = bytes.fromhex("060a2a864886f70d01091601")


class Entry(NamedTuple):
    """One entry of a JKS file: its alias and all its bytes."""

    alias: str
    data: bytes


def entries(store: bytes) -> list[Entry] | None:
    """The entries of a trust store of either kind; None for anything that is not one we can rewrite."""
    if store.startswith(MAGIC):
        return _jks_entries(store)
    if store.startswith(b"\x30"):
        found = [entry(f"image-{number}", der) for number, der in enumerate(_pkcs12_certificates(store))]
        return found or None
    return None


def entry(alias: str, der: bytes) -> Entry:
    """A trusted certificate under `alias` (lower case)."""
    data = struct.pack(">I", _TRUSTED) + _text(alias) + struct.pack(">Q", 0) + _text("X.509")
    return Entry(alias, data + struct.pack(">I", len(der)) + der)


def dump(found: list[Entry]) -> bytes:
    """A JKS file of `found`."""
    body = MAGIC + struct.pack(">II", 2, len(found)) + b"".join(entry.data for entry in found)
    return body + _digest(body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha1(PASSWORD.encode("utf-16-be") + _SALT + body, usedforsecurity=False).digest()


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _jks_entries(store: bytes) -> list[Entry] | None:
    body = store[:-_DIGEST]
    if _digest(body) != store[-_DIGEST:]:
        return None  # another password
    found = []
    try:
        version, count = struct.unpack_from(">II", body, 4)
        place = 12
        for _ in range(count):
            begin = place
            (tag,) = struct.unpack_from(">I", body, place)
            alias, place = _read_text(body, place + 4)
            place += 8
            if tag == _TRUSTED:
                place = _skip_certificate(body, place, version)
            else:  # a private key and its chain
                (size,) = struct.unpack_from(">I", body, place)
                (chain,) = struct.unpack_from(">I", body, place + 4 + size)
                place += 8 + size
                for _ in range(chain):
                    place = _skip_certificate(body, place, version)
            found.append(Entry(alias, body[begin:place]))
    except (struct.error, UnicodeDecodeError):
        return None
    return found if version == 2 and place == len(body) else None


def _read_text(body: bytes, place: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">H", body, place)
    return body[place + 2 : place + 2 + size].decode(), place + 2 + size


def _skip_certificate(body: bytes, place: int, version: int) -> int:
    if version == 2:
        _kind, place = _read_text(body, place)
    (size,) = struct.unpack_from(">I", body, place)
    return int(place + 4 + size)


def _pkcs12_certificates(store: bytes) -> Iterator[bytes]:
    """The certificates in the clear, in DER; none where the store is encrypted."""
    place = 0
    while (place := store.find(_CERT_BAG, place)) >= 0:
        place += len(_CERT_BAG)
        if store[place : place + 1] != b"\xa0":
            continue
        begin, _end = _content(store, place)
        if store[begin : begin + 1] != b"\x04":
            continue
        begin, end = _content(store, begin)
        yield store[begin:end]
        place = end


def _content(data: bytes, place: int) -> tuple[int, int]:
    """Where the content of the DER value at `place` begins and ends."""
    if place + 2 > len(data):
        raise LayerError("a trust store of the image is cut short")
    size = data[place + 1]
    begin = place + 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[begin : begin + count], "big")
        begin += count
    if begin + size > len(data):
        raise LayerError("a trust store of the image is cut short")
    return begin, begin + size
