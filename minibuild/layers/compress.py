"""Layer compression: what may be asked for, how it is written, how it is read back.

Written bytes are a function of the input, the level and the version of the compressor: no time, no
name, no worker count. Some compressors cut their blocks where the caller cuts its calls, so every
writer feeds a `Compressor` pieces of exactly `CHUNK` bytes and then the rest.
"""

from __future__ import annotations

import zlib
from typing import IO, Final, Literal, Protocol, cast

from minibuild.errors import LayerError, UsageError
from minibuild.oci import mediatype
from minibuild.values import NamedTuple

Algorithm = Literal["zstd", "gzip", "uncompressed"]

CHUNK: Final = 1 << 20

_DEFAULT_LEVELS: Final[dict[Algorithm, int | None]] = {"zstd": 1, "gzip": 1, "uncompressed": None}
_HIGHEST: Final[dict[Algorithm, int]] = {"zstd": 22, "gzip": 9, "uncompressed": 0}
_MEDIA_TYPES: Final[dict[Algorithm, str]] = {
    "zstd": mediatype.OCI_LAYER_ZSTD,
    "gzip": mediatype.OCI_LAYER_GZIP,
    "uncompressed": mediatype.OCI_LAYER,
}
_UNCOMPRESSED_TYPES: Final = (mediatype.OCI_LAYER, mediatype.DOCKER_LAYER)
_ZSTD_WIDEST: Final = 19
"""The highest zstd level with a window of 8 MiB, which all decoders are to take (RFC 8878, 3.1.1.1.2)."""
_IGZIP_LEVELS: Final = range(4)
_GZIP_WBITS: Final = 31  # deflate in a gzip frame, window 32 KiB
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# RFC 8878 section 3.1.2: a frame to be skipped, such as zstd:chunked puts around its own
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"


class Reader(Protocol):
    """A stream of bytes; `read(n)` gives at most `n`, and ``b""`` only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Compressor(Protocol):
    """A running compression; `compress` may hold bytes back until `flush`, which ends it."""

    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Compression(NamedTuple):
    """How a layer blob is compressed; `level` is None for ``uncompressed`` only."""

    algorithm: Algorithm
    level: int | None

    @classmethod
    def parse(cls, algorithm: str, level: int | str | None = None) -> Compression:
        """The compression a caller names; raises `UsageError`.

        Levels: zstd 0-22 (0 is 1; 20-22 search longer than 19, but in no larger window), gzip 0-9 (0-3
        are igzip's and none of them stores plain). Without a level, the fastest that still compresses well.
        """
        if algorithm not in _DEFAULT_LEVELS:
            raise UsageError(
                f"no layer compression is called {algorithm!r}", cure="Say zstd, gzip or uncompressed."
            )
        name = algorithm
        if level is None or name == "uncompressed":
            return cls(name, _DEFAULT_LEVELS[name])
        highest = _HIGHEST[name]
        try:
            number = int(level)
        except ValueError:
            number = -1
        if not 0 <= number <= highest:
            raise UsageError(
                f"{name} has no compression level {level!r}", cure=f"Give a number from 0 to {highest}."
            )
        return cls(name, max(number, 1) if name == "zstd" else number)

    @property
    def media_type(self) -> str:
        """The OCI media type of a layer compressed so."""
        return _MEDIA_TYPES[self.algorithm]

    def compressor(self) -> Compressor | None:
        """A fresh compressor; None where the bytes are written as they are."""
        if self.algorithm == "uncompressed":
            return None
        level = _DEFAULT_LEVELS[self.algorithm] if self.level is None else self.level
        assert level is not None
        return _zstd_compressor(level) if self.algorithm == "zstd" else _gzip_compressor(level)


DEFAULT: Final = Compression("zstd", 1)


def _zstd_compressor(level: int) -> Compressor:
    import zstandard

    # streamed and of unknown size, no checksum: the blob digest is one
    if level <= _ZSTD_WIDEST:
        frame = zstandard.ZstdCompressor(
            level=level, write_checksum=False, write_content_size=False, write_dict_id=False
        )
        return cast(Compressor, frame.compressobj())
    widest = zstandard.ZstdCompressionParameters.from_level(_ZSTD_WIDEST)
    limited = zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=widest.window_log,
        chain_log=widest.chain_log,
        hash_log=widest.hash_log,
        write_checksum=False,
        write_content_size=False,
        write_dict_id=False,
    )
    return cast(Compressor, zstandard.ZstdCompressor(compression_params=limited).compressobj())


def _gzip_compressor(level: int) -> Compressor:
    if level in _IGZIP_LEVELS:
        from isal import isal_zlib

        return cast(Compressor, isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP_WBITS))
    return zlib.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)


def decompressor(fileobj: Reader, media_type: str | None = None) -> Reader:
    """The tar stream inside `fileobj`, which is at the blob's first byte and stays the caller's.

    The media type says how it is compressed; where it does not (None, or a type of neither OCI nor
    Docker), the first bytes do. Concatenated gzip members and zstd frames are one stream. Damaged
    data raises `LayerError` from `read`. A zstd blob cut short may end early without an error: the
    end of the archive, the diff ID and the blob digest tell.
    """
    algorithm = _algorithm_of(media_type)
    if algorithm is None:
        head = _read_exactly(fileobj, 4)
        algorithm = _sniff(head)
        fileobj = _Prefixed(head, fileobj)
    if algorithm == "gzip":
        return _GzipStream(fileobj)
    if algorithm == "zstd":
        return _ZstdStream(fileobj)
    return fileobj


def _algorithm_of(media_type: str | None) -> Algorithm | None:
    if media_type is None:
        return None
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if media_type.endswith(("+zstd", ".zstd")):
        return "zstd"
    return "uncompressed" if media_type in _UNCOMPRESSED_TYPES else None


def _sniff(head: bytes) -> Algorithm:
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    return "zstd" if is_zstd(head) or is_skippable(head) else "uncompressed"


def is_zstd(head: bytes) -> bool:
    """Whether what begins with `head` is a zstd frame."""
    return head.startswith(_ZSTD_MAGIC)


def is_skippable(head: bytes) -> bool:
    """Whether what begins with `head` is one of zstd's that holds nothing for decompressors."""
    return head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5


def _read_exactly(fileobj: Reader, size: int) -> bytes:
    """`size` bytes, fewer at the end of the stream only."""
    data = b""
    while len(data) < size:
        piece = fileobj.read(size - len(data))
        if not piece:
            break
        data += piece
    return data


class _Prefixed:
    """`head`, then what is left of `rest`; with the `readinto` that igzip asks for."""

    def __init__(self, head: bytes, rest: Reader) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._rest.read(size)
        data = self._head[:size]
        self._head = self._head[len(data) :]
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _GzipStream:
    def __init__(self, fileobj: Reader) -> None:
        from isal import igzip, isal_zlib

        source = fileobj if hasattr(fileobj, "readinto") else _Prefixed(b"", fileobj)
        self._stream: Reader = igzip.IGzipFile(fileobj=source, mode="rb")  # type: ignore[no-untyped-call]
        self._damage = (igzip.BadGzipFile, EOFError, cast(type[Exception], isal_zlib.error))

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._damage as error:
            raise LayerError(f"the gzip data is damaged: {error}") from None


class _ZstdStream:
    def __init__(self, fileobj: Reader) -> None:
        import zstandard

        frames = zstandard.ZstdDecompressor()
        self._stream = frames.stream_reader(
            cast(IO[bytes], fileobj), read_size=1 << 17, read_across_frames=True
        )
        self._damage = zstandard.ZstdError

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._damage as error:
            raise LayerError(f"the zstd data is damaged: {error}") from None
