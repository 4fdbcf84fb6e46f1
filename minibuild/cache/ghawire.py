"""Requests to GitHub Actions' cache service, and to where it keeps the bytes.

No message has a token, a signed address or the path of an address in it: version 1 has a secret there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from minibuild.cache.ghatoken import Place
from minibuild.errors import MinibuildError
from minibuild.registry.errors import RegistryError, printable
from minibuild.registry.message import Body, Request, Response
from minibuild.registry.transport import Transport
from minibuild.values import replace

_MOST = 1 << 20
_DONE = (200, 201, 202, 204)
_REQUEST = re.compile(r" \([A-Z]+ https?://[^\s)]*\)")
_PATH = re.compile(r"(https?://[^/\s]+)[^\s)]*")


class CacheServiceError(MinibuildError):
    """The cache service refused, failed or could not be reached."""


class Taken(CacheServiceError):
    """The key is there already, if only reserved."""


class Wire:
    """What every request has in common; thread-safe."""

    def __init__(self, transport: Transport, place: Place) -> None:
        self.backoff = transport.backoff
        self._transport = transport
        self._token = place.token
        self._secrets = tuple(filter(None, (place.token, place.ghtoken)))

    def ask(self, what: str, request: Request) -> dict[str, Any]:
        """The JSON object that the service answers; empty where it says nothing. `what` is for messages."""
        headers = {"Authorization": f"Bearer {self._token}", **request.headers}
        with self.plain(what):
            response = self._transport.send(replace(request, headers=headers))
            body = response.read(_MOST)
        document = _document(body)
        if response.status not in _DONE:
            raise self.refused(what, response, document)
        if document is None and body.strip():
            raise self.failure(what, request.url, "its answer is no JSON object")
        return document or {}

    def post(
        self, what: str, url: str, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        sent = {"Content-Type": "application/json", **(headers or {})}
        return self.ask(what, Request("POST", url, sent, json.dumps(document).encode()))

    def put(self, what: str, url: str, headers: Mapping[str, str], body: bytes | Body) -> None:
        """Send bytes to a signed address."""
        with self.plain(what):
            response = self._transport.send(Request("PUT", url, headers, body))
            said = response.read(_MOST)
        if response.status not in _DONE:
            raise self.refused(what, response, _document(said))

    def get(self, what: str, url: str, headers: Mapping[str, str]) -> Response:
        """What is at a signed address, whatever its status."""
        with self.plain(what):
            return self._transport.send(Request("GET", url, headers))

    def failure(self, what: str, url: str, why: str) -> CacheServiceError:
        return self._error(CacheServiceError, what, url, why)

    def refused(
        self, what: str, response: Response, document: Mapping[str, Any] | None = None
    ) -> CacheServiceError:
        """The error for an unwanted status; `document` is what the answer says."""
        response.close()
        said = [
            str((document or {}).get(name) or "") for name in ("message", "msg", "error", "code", "typeKey")
        ]
        words = next(filter(None, said), "")
        why = f"{response.status} {printable(response.reason, 60)}" + (f" ({words})" if words else "")
        if response.status in (401, 403):
            why += "; the token is wrong, has expired or may not do this"
        elif response.status == 429:
            why += "; the limit on requests is used up"
        kind = Taken if response.status == 409 or any(map(says_taken, said)) else CacheServiceError
        return self._error(kind, what, response.url, why)

    def _error(self, kind: type[CacheServiceError], what: str, url: str, why: str) -> CacheServiceError:
        host = urlsplit(url).netloc.rpartition("@")[2]
        return kind(
            f"cannot {what}: {host}: {printable(self._safe(why))}",
            cure="Look at what the server says, or use another type=.",
        )

    @contextmanager
    def plain(self, what: str) -> Iterator[None]:
        """Turn what the transport raises into `CacheServiceError`, without cures for registries and paths."""
        try:
            yield
        except RegistryError as error:
            text = self._safe(_REQUEST.sub("", error.message))
            raise CacheServiceError(
                f"cannot {what}: {text}", cure="Look at the network, or go on without this cache."
            ) from None

    def _safe(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "xxxxx")
        return _PATH.sub(r"\1/...", text)


def says_taken(text: str) -> bool:
    """Whether an error of either version says that a key is there already."""
    return "alreadyexists" in re.sub(r"[\s_]", "", text).lower()


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body.decode("utf-8-sig"))  # GitHub's errors begin with a byte order mark
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
