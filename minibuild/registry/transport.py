"""HTTP for registries: pooled connections, TLS, proxies, redirects, and retries of what may be repeated.

Nothing here knows of repositories or tokens. urllib3 and ssl load with the first request, not before.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from minibuild.oci.reference import DEFAULT_REGISTRY
from minibuild.registry.errors import BadAnswer, RegistryError, Unreachable, redact, refusal
from minibuild.registry.options import RegistryOptions
from minibuild.registry.proxy import proxy_for
from minibuild.registry.retry import Backoff
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    import ssl

    import urllib3

DOCKER_HOSTS = ("registry-1.docker.io", "index.docker.io")
CHUNK = 1 << 20
_BLOCK = 64 << 10  # sent within the connect timeout, so also by the slowest lines
_PUT_PATIENCE = 5  # registries move the bytes to their place before they answer
_DRAINED = 64 << 10  # reading this much is cheaper than a new connection
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Upload:
    """A request body of `size` bytes; `opener` is called for each try, so the body can be sent again.

    `watch` is told how many bytes went out so far, and may raise to stop.
    """

    opener: Callable[[], IO[bytes]]
    size: int
    watch: Callable[[int], None] | None = None

    def blocks(self) -> Iterator[bytes]:
        """The bytes; raises `_SourceFault` around what the source raises, and where it ends early."""
        done = 0
        try:
            with self.opener() as source:
                while done < self.size and (block := source.read(min(_BLOCK, self.size - done))):
                    yield block
                    done += len(block)
                    if self.watch is not None:
                        self.watch(done)
            if done < self.size:
                raise OSError(errno.EIO, f"a body of {self.size} bytes ended after {done}")
        except Exception as error:
            raise _SourceFault(error) from error


class _SourceFault(Exception):
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
    body: bytes | Upload = b""
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

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The body in pieces; raises `Unreachable` (temporary) where the connection is cut."""
        import urllib3

        try:
            while data := self._raw.read(size, decode_content=False):
                yield data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self.method, self.url, error) from error
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


class Transport:
    """Sends requests; thread-safe. `wait` sleeps some seconds and may raise to give up early."""

    def __init__(self, options: RegistryOptions, *, wait: Callable[[float], None] = time.sleep) -> None:
        self._options = options
        self._wait = wait
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def backoff(self) -> Backoff:
        """A new count of tries under the options."""
        return Backoff(self._options, self._wait)

    def send(self, request: Request) -> Response:
        """Send, follow redirects, and try again what is worth it; any status may come back.

        Raises `Unreachable` where no answer came.
        """
        backoff = self.backoff()
        while True:
            try:
                response = self._follow(request)
            except Unreachable as error:
                if request.once or not error.temporary or not backoff.again():
                    raise
                continue
            if response.status not in _RETRIED or request.once or backoff.exhausted:
                return response
            response.close()  # no connection is held while waiting
            backoff.again(response.header("Retry-After"), response.header("Date"))

    def whole(self, send: Callable[[], Response], limit: int) -> tuple[Response, bytes]:
        """What `send` returns and its body, got anew where it is cut; no body unless the status is 200."""
        backoff = self.backoff()
        while True:
            response = send()
            if response.status != 200:
                return response, b""
            try:
                return response, response.read(limit)
            except Unreachable as error:
                if not error.temporary or not backoff.again():
                    raise

    def close(self) -> None:
        """Close every pooled connection."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def _follow(self, request: Request) -> Response:
        method, url, body = request.method, request.url, request.body
        headers = {"User-Agent": user_agent(), **request.headers}
        for _ in range(_MAX_REDIRECTS):
            response = self._once(method, url, headers, body)
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            target = urljoin(url, location)
            if urlsplit(target).scheme not in ("http", "https"):
                break
            if _origin(target) != _origin(url):
                headers = {key: value for key, value in headers.items() if key.lower() != "authorization"}
            if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                method, body = "GET", b""
            url = target
        raise BadAnswer(
            f"{request.method} {redact(request.url)}: redirected too often or to no web address",
            method=request.method,
            url=request.url,
        )

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Upload) -> Response:
        import urllib3

        pool = self._pool(url)
        sent = dict(headers)
        payload: bytes | Iterator[bytes] | None = None
        if isinstance(body, Upload):
            payload = body.blocks()
            sent["Content-Length"] = str(body.size)
        elif method in ("POST", "PUT", "PATCH"):
            payload = iter([body[at : at + _BLOCK] for at in range(0, len(body), _BLOCK)]) if body else None
            sent["Content-Length"] = str(len(body))
        try:
            raw = pool.urlopen(
                method,
                url,
                body=payload,
                headers=sent,
                timeout=self._timeout(method),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(method, url, error) from error
        except _SourceFault as fault:
            raise fault.error from None
        return Response(raw, method, url)

    def _timeout(self, method: str) -> urllib3.Timeout:
        import urllib3

        read = self._options.read_timeout * (_PUT_PATIENCE if method == "PUT" else 1)
        return urllib3.Timeout(connect=self._options.connect_timeout, read=read)

    def _pool(self, url: str) -> urllib3.PoolManager:
        """One manager for each host, since each may have its own certificates, and for each proxy."""
        proxy = proxy_for(url, self._options.proxies)
        host = urlsplit(url).netloc
        with self._lock:
            found = self._pools.get((proxy, host))
            if found is None:
                found = self._pools[proxy, host] = self._make_pool(url, proxy)
            return found

    def _make_pool(self, url: str, proxy: str) -> urllib3.PoolManager:
        import urllib3

        options = self._options
        context: ssl.SSLContext | None = None
        if url.startswith("https://") or proxy.startswith("https://"):
            from minibuild.registry.tls import tls_context

            registry = registry_of(url)
            context = tls_context(options, registry)
            if not options.host(registry).verify:  # who sets that has been warned
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        keywords: dict[str, Any] = {
            "num_pools": 4,
            "maxsize": options.connections,
            "block": True,
            "blocksize": _BLOCK,
            "ssl_context": context,
        }
        if not proxy:
            return urllib3.PoolManager(**keywords)
        user = urlsplit(proxy)
        if user.username:
            login = f"{user.username}:{user.password or ''}"
            keywords["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(proxy, **keywords)


@cache
def user_agent() -> str:
    """``minibuild/<version>``, as installed."""
    from importlib import metadata

    try:
        return "minibuild/" + metadata.version("minibuild")
    except metadata.PackageNotFoundError:  # run from a bare checkout
        return "minibuild"


def registry_of(url: str) -> str:
    """The name under which options and logins know the host of `url`."""
    host = urlsplit(url).netloc.rpartition("@")[2].lower()
    if host in DOCKER_HOSTS:
        return DEFAULT_REGISTRY
    return host.removesuffix(":443") if url.startswith("https:") else host


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def _unreachable(method: str, url: str, error: Exception) -> RegistryError:
    """Say in words why no answer came, and whether it may come the next time."""
    import ssl

    from urllib3 import exceptions

    host = urlsplit(url).netloc.rpartition("@")[2]
    cause: BaseException | None = error
    chain: list[BaseException] = []
    while cause is not None and cause not in chain:
        chain.append(cause)
        inner = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = cause.__cause__ or inner
    temporary, cure = True, "Try again; if it goes on, look at the network or use a --registry-mirror."
    why = "the connection was cut"
    if any(isinstance(one, exceptions.ProxyError) for one in chain):
        temporary, why = False, "the proxy cannot be reached"
        cure = "Set HTTP_PROXY, HTTPS_PROXY or NO_PROXY right."
    elif any(isinstance(one, ConnectionRefusedError) for one in chain):
        temporary, why = False, "connection refused"
        cure = f"Start the registry at {host}, or name another with --registry-mirror."
    elif any(isinstance(one, exceptions.NameResolutionError) for one in chain):
        temporary, why = False, "its address cannot be found"
        cure = "Check the name, the network and the DNS, or use a --registry-mirror."
    elif any(isinstance(one, ssl.SSLCertVerificationError) for one in chain):
        temporary, why = False, "its certificate is not trusted"
        cure = f'Give its CA with [registry."{host}"] ca="..." in the config file or with SSL_CERT_FILE.'
    elif any(isinstance(one, ssl.SSLError | exceptions.SSLError) for one in chain):
        temporary, why = False, "TLS failed"
        cure = f"If {host} speaks plain http, name it with --insecure-registry {host}."
    elif any(isinstance(one, exceptions.ConnectTimeoutError) for one in chain):
        temporary, why = False, "no answer to the connection attempt"
    elif any(isinstance(one, exceptions.ReadTimeoutError | TimeoutError) for one in chain):
        why = "no data came for too long"
    elif any(isinstance(one, exceptions.NewConnectionError) for one in chain):
        temporary, why = False, f"no connection ({chain[-1]})"
    elif any(isinstance(one, exceptions.LocationParseError | exceptions.InvalidHeader) for one in chain):
        return BadAnswer(f"{method} {redact(url)}: {error}", method=method, url=url)
    return Unreachable(
        f"cannot reach {host}: {why} ({method} {redact(url)})",
        cure=cure,
        method=method,
        url=url,
        temporary=temporary,
    )
