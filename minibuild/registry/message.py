"""HTTP as registries speak it: requests, bodies that can be sent again, and answers."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING

from minibuild.registry.errors import BadAnswer, RegistryError, redact, refusal
from minibuild.registry.unreachable import unreachable
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    import urllib3

CHUNK = 1 << 20
BLOCK = 64 << 10  # sent within the connect timeout, so also by the slowest lines
_DRAINED = 64 << 10  # reading this much is cheaper than a new connection


@dataclass(frozen=True, slots=True)
class Body:
    """A request body of `size` bytes; `opener` is called for each try, so the body can be sent again.

    `watch` is told how many bytes went out so far, and may raise to stop.
    """

    opener: Callable[[], IO[bytes]]
    size: int
    watch: Callable[[int], None] | None = None

    def blocks(self) -> Iterator[bytes]:
        """The bytes; raises `SourceFault` around what the source raises, and where it ends early."""
        done = 0
        try:
            with self.opener() as source:
                while done < self.size and (block := source.read(min(BLOCK, self.size - done))):
                    yield block
                    done += len(block)
                    if self.watch is not None:
                        self.watch(done)
            if done < self.size:
                raise OSError(errno.EIO, f"a body of {self.size} bytes ended after {done}")
        except Exception as error:
            raise SourceFault(error) from error


class SourceFault(Exception):
    """Keeps the body's own faults apart from those of the connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Request:
    """`once` forbids retries (the caller has its own)."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Body = b""
    once: bool = False


class Response:
    """An answer whose body has not been read yet; must be closed or read to its end."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, method: str, url: str) -> None:
        self._raw = raw
        self.method = method
        self.url = url
        self.status = raw.status
        self.reason = raw.reason or ""

    def header(self, name: str) -> str:
        return self._raw.headers.get(name, "")

    def headers(self, name: str) -> tuple[str, ...]:
        """Every value of a header that may come more than once."""
        return tuple(self._raw.headers.getlist(name))

    @property
    def size(self) -> int | None:
        """The length that the headers announce, in bytes."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() else None

    def chunks(self, size: int = CHUNK, *, decode: bool = False) -> Iterator[bytes]:
        """The body in pieces; raises `Unreachable` (temporary) where the connection is cut.

        `decode` undoes a ``Content-Encoding`` that the server chose unasked.
        """
        import urllib3

        try:
            if decode:
                yield from self._raw.stream(size, decode_content=True)
                return
            while data := self._raw.read(size, decode_content=False):
                yield data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self.method, self.url, error) from error
        finally:
            self.close()

    def read(self, limit: int) -> bytes:
        """The whole body; raises `BadAnswer` past `limit` bytes."""
        parts, total = [], 0
        for data in self.chunks(min(CHUNK, limit + 1)):
            parts.append(data)
            total += len(data)
            if total > limit:
                self.close()
                raise BadAnswer(
                    f"{self.method} {redact(self.url)}: more than {limit} bytes, the most taken here",
                    method=self.method,
                    url=self.url,
                    status=self.status,
                    cure="Look at what answers for that address: it is no registry's document.",
                )
        return b"".join(parts)

    def refusal(self, *, what: str = "", cure: str = "") -> RegistryError:
        """Read the error body and make the error of it."""
        body = b""
        with contextlib.suppress(RegistryError):  # without it the status alone must do
            body = next(self.chunks(64 << 10), b"")
        self.close()
        return refusal(self.method, self.url, self.status, self.reason, body, what=what, cure=cure)

    def close(self) -> None:
        """Give the connection back, or drop it where unread bytes are left on it."""
        left = self._raw.length_remaining
        if left is not None and left <= _DRAINED:
            self._raw.drain_conn()
        else:
            self._raw.close()
            self._raw.release_conn()  # a closed connection keeps its place in the pool until it is given back
