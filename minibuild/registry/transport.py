"""HTTP for registries: pooled connections, TLS, proxies, redirects, and retries of what may be repeated.

Nothing here knows of repositories or tokens. urllib3 and ssl load with the first request, not before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from minibuild_store import stopping

from minibuild.errors import UsageError
from minibuild.oci.reference import DEFAULT_REGISTRY
from minibuild.registry.errors import BadAnswer, Unreachable, redact
from minibuild.registry.message import BLOCK, Body, Request, Response, SourceFault
from minibuild.registry.options import RegistryOptions
from minibuild.registry.proxy import proxy_for
from minibuild.registry.retry import Backoff
from minibuild.registry.unreachable import unreachable

if TYPE_CHECKING:
    import ssl

    import urllib3

DOCKER_HOSTS = ("registry-1.docker.io", "index.docker.io")
_PUT_PATIENCE = 5  # registries move the bytes to their place before they answer
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


class Transport:
    """Sends requests; thread-safe. `wait` sleeps some seconds and may raise to give up early."""

    def __init__(self, options: RegistryOptions, *, wait: Callable[[float], None] = stopping.pause) -> None:
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
            cure="Look at what answers for that address: a login page or a proxy may stand before it.",
        )

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body) -> Response:
        import urllib3

        pool = self._pool(url)
        sent = dict(headers)
        payload: bytes | Iterator[bytes] | None = None
        if isinstance(body, Body):
            payload = body.blocks()
            sent["Content-Length"] = str(body.size)
        elif method in ("POST", "PUT", "PATCH"):
            payload = iter([body[at : at + BLOCK] for at in range(0, len(body), BLOCK)]) if body else None
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
            raise unreachable(method, url, error) from error
        except SourceFault as fault:
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

        from minibuild.registry import sockets

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
            "blocksize": BLOCK,
            "ssl_context": context,
        }
        manager: urllib3.PoolManager
        if proxy:
            user = urlsplit(proxy)
            if user.scheme not in ("http", "https"):
                raise UsageError(
                    f"the proxy {redact(proxy)} is of a kind that is not spoken here: {user.scheme}",
                    cure="Set HTTP_PROXY and HTTPS_PROXY to http:// addresses, or name the host in NO_PROXY.",
                )
            if user.username:
                login = f"{user.username}:{user.password or ''}"
                keywords["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
            manager = urllib3.ProxyManager(proxy, **keywords)
        else:
            manager = urllib3.PoolManager(**keywords)
        sockets.use(manager)
        return manager


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
