"""One request to one repository: authorized, tried again where a new token helps, refusals put in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from minibuild_store import stopping

from minibuild.registry.auth import Authorizer, denied
from minibuild.registry.challenge import Scopes
from minibuild.registry.credentials import Keychain
from minibuild.registry.errors import RegistryError, Unauthorized
from minibuild.registry.message import Body, Request, Response
from minibuild.registry.mirrors import Place
from minibuild.registry.options import RegistryOptions
from minibuild.registry.transport import Transport

_DOWN_SECONDS = 60.0
_AUTH_TRIES = 3  # no token, too narrow a token, the right token


class Session:
    """What all requests under one set of options share: connections, logins, tokens. Thread-safe."""

    def __init__(
        self,
        options: RegistryOptions,
        *,
        wait: Callable[[float], None] = stopping.pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self.transport = Transport(options, wait=wait)
        self._authorizer = Authorizer(self.transport, Keychain(options), clock=clock)
        self._clock = clock
        self._down: dict[str, float] = {}

    def send(
        self,
        place: Place,
        method: str,
        url: str,
        scopes: Scopes,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body = b"",
        once: bool = False,
    ) -> Response:
        """The answer, whatever its status but 401. A login goes to `place` alone, never to another host.

        Raises `Unreachable`, `Unauthorized`, and `BadAnswer` for an answer that breaks the protocol.
        """
        ours = _same_host(url, place.base)
        for left in range(_AUTH_TRIES - 1, -1, -1):
            authorization = self._authorizer.header(place, scopes) if ours else ""
            sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
            response = self.transport.send(Request(method, url, sent, body, once))
            if response.status != 401 or not ours:
                return response
            wider = self._authorizer.answer(place, scopes, response, authorization)
            if wider is None or not left:
                break
            scopes = wider
            response.close()
        raise self.refused(place, response)

    def refused(self, place: Place, response: Response, *, what: str = "", cure: str = "") -> RegistryError:
        """The error for an answer that is not what was asked for."""
        error = response.refusal(what=what or f"access to {place.registry}/{place.repository}", cure=cure)
        if isinstance(error, Unauthorized):
            return denied(error, place, self._authorizer.search(place))
        return error

    def set_down(self, place: Place) -> None:
        """Remember that `place` could not be reached."""
        self._down[place.base] = self._clock() + _DOWN_SECONDS

    def is_down(self, place: Place) -> bool:
        """Whether `place` could not be reached a short while ago."""
        return self._down.get(place.base, 0.0) > self._clock()

    def close(self) -> None:
        self.transport.close()


def _same_host(url: str, base: str) -> bool:
    one, other = urlsplit(url), urlsplit(base)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)
