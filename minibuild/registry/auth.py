"""Tokens: what a registry's challenge asks for, from whom to get it, and how long it holds.

The flows are those of distribution's pages on token authentication: Basic, a GET for a token (with a login or
without one), and the OAuth2 POST for identity tokens.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from urllib.parse import urlencode, urljoin, urlsplit

from minibuild.registry.challenge import Challenge, Scopes, parse_challenges
from minibuild.registry.credentials import Credentials, Keychain, Search
from minibuild.registry.errors import BadAnswer, RegistryError, Unauthorized, redact
from minibuild.registry.message import Request, Response
from minibuild.registry.mirrors import Place
from minibuild.registry.proxy import is_loopback
from minibuild.registry.transport import Transport
from minibuild.values import dataclass, field

_CLIENT = "minibuild"
_TOKEN_LIMIT = 1 << 20
_DEFAULT_LIFE = 60.0  # what the specification says where the answer does not
_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token for `scopes`, good until `expires` (seconds on the authorizer's clock)."""

    value: str = field(repr=False)
    scopes: Scopes
    expires: float


class _Door:
    """What is known of one registry's doorkeeper."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.challenge: Challenge | None = None
        self.tokens: list[Token] = []


class Authorizer:
    """Makes the ``Authorization`` of each request; thread-safe; a token is fetched once however many ask."""

    def __init__(
        self, transport: Transport, keychain: Keychain, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._keychain = keychain
        self._clock = clock
        self._lock = threading.Lock()
        self._doors: dict[tuple[str, str], _Door] = {}

    def header(self, place: Place, scopes: Scopes) -> str:
        """What to send, from what is known; empty before the registry has asked for anything."""
        login = self._login(place).found
        if login is not None and login.registry_token:
            return f"Bearer {login.registry_token}"
        door = self._door(place)
        with door.lock:
            if door.challenge is None:
                return ""
            if door.challenge.scheme == "basic":
                return _basic(login) if login is not None else ""
            return f"Bearer {self._token(door, door.challenge, place, scopes).value}"

    def answer(self, place: Place, scopes: Scopes, response: Response, sent: str) -> Scopes | None:
        """Learn from a 401: the scopes to ask for in another try, or None where that would not help."""
        challenge = _choose(response)
        if challenge is None:
            return None
        login = self._login(place).found
        if login is not None and login.registry_token:
            return None
        door = self._door(place)
        with door.lock:
            asked = Scopes.of(challenge.get("scope"))
            if challenge.scheme == "basic":
                door.challenge = challenge
                header = _basic(login) if login is not None else ""
                return scopes if header and header != sent else None
            known, door.challenge = door.challenge, challenge
            if sent and scopes.covers(asked) and challenge.get("error") == "insufficient_scope":
                return None
            spent = [token for token in door.tokens if f"Bearer {token.value}" == sent]
            door.tokens = [token for token in door.tokens if token not in spent]
            if not sent or spent or known is None or not scopes.covers(asked):
                return scopes | asked
            # another thread has put a newer token in the place of ours
            return scopes if any(token.scopes.covers(scopes) for token in door.tokens) else None

    def search(self, place: Place) -> Search:
        """Which login is used for `place`, and where it was looked for."""
        return self._login(place)

    def _login(self, place: Place) -> Search:
        return self._keychain.find(place.registry, place.repository)

    def _door(self, place: Place) -> _Door:
        login = self._login(place).found
        with self._lock:
            return self._doors.setdefault(
                (place.base, login.source + login.username if login else ""), _Door()
            )

    def _token(self, door: _Door, challenge: Challenge, place: Place, scopes: Scopes) -> Token:
        now = self._clock()
        door.tokens = [token for token in door.tokens if token.expires > now]
        for token in door.tokens:
            if token.scopes.covers(scopes):
                return token
        token = self._fetch(challenge, place, scopes)
        door.tokens.append(token)
        return token

    def _fetch(self, challenge: Challenge, place: Place, scopes: Scopes) -> Token:
        realm = urljoin(place.base, challenge.get("realm"))
        login = self._login(place).found
        if not challenge.get("realm") or urlsplit(realm).scheme not in ("http", "https"):
            raise BadAnswer(
                f"{place.registry} asks for a token but names no address to get it from", url=realm
            )
        if login is not None and _exposes(place, realm):
            raise Unauthorized(
                f"{place.registry} wants the password sent in the clear to {redact(realm)}",
                cure=f"If that is meant, name it with --insecure-registry {place.registry}.",
                url=realm,
            )
        request = self._request(realm, challenge.get("service"), scopes, login)
        response, body = self._transport.whole(lambda: self._transport.send(request), _TOKEN_LIMIT)
        if response.status != 200:
            raise self._denied(place, response)
        return self._read(response, body, scopes)

    def _request(self, realm: str, service: str, scopes: Scopes, login: Credentials | None) -> Request:
        if login is not None and login.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": login.identity_token,
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes.texts),
            }
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return Request("POST", realm, kind, urlencode(form).encode())
        query = [("service", service)] if service else []
        query += [("scope", text) for text in scopes.texts]
        headers = {}
        if login is not None:
            query.append(("account", login.username))
            headers["Authorization"] = _basic(login)
        joint = "&" if urlsplit(realm).query else "?"
        return Request("GET", realm + joint + urlencode(query) if query else realm, headers)

    def _read(self, response: Response, body: bytes, scopes: Scopes) -> Token:
        now = self._clock()
        try:
            document = json.loads(body)
            value = document.get("token") or document.get("access_token")
            life = document.get("expires_in") or _DEFAULT_LIFE
            good = isinstance(value, str) and value.isascii() and value.isprintable()
            good = good and isinstance(life, int | float)
        except (ValueError, AttributeError, RecursionError):
            good = False
        if not good:
            raise BadAnswer(
                f"GET {redact(response.url)}: the answer holds no token", method="GET", url=response.url
            )
        return Token(value, scopes, now + max(float(life) - _MARGIN, float(life) / 2))

    def _denied(self, place: Place, response: Response) -> RegistryError:
        error = response.refusal(what=f"a token for {place.registry}/{place.repository}")
        if error.status in (400, 401, 403):  # Docker Hub and OAuth servers say 400 to a bad login
            return denied(error, place, self._login(place))
        return error


def denied(error: RegistryError, place: Place, search: Search) -> Unauthorized:
    """`error` told with which login was tried, or where one was looked for."""
    if search.found is not None:
        tried = f"tried {search.found}"
        cure = f"Check that this account may do so, or run 'docker login {place.registry}' with another."
    else:
        tried = f"no credentials for {place.registry} found"
        if search.tried:
            tried += f" in {', '.join(search.tried)}"
        cure = f"If the name is right, run 'docker login {place.registry}' with an account that has access."
    return Unauthorized(
        f"{error.message}; {tried}",
        cure=cure,
        method=error.method,
        url=error.url,
        status=error.status,
        codes=error.codes,
    )


def _choose(response: Response) -> Challenge | None:
    """The strongest challenge that is understood."""
    found = [one for value in response.headers("WWW-Authenticate") for one in parse_challenges(value)]
    for scheme in ("bearer", "basic"):
        for challenge in found:
            if challenge.scheme == scheme:
                return challenge
    return None


def _basic(login: Credentials) -> str:
    if not login.username:
        return ""
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")


def _exposes(place: Place, realm: str) -> bool:
    """Whether a login meant for a TLS registry would travel without TLS."""
    parts = urlsplit(realm)
    return (
        parts.scheme == "http" and place.base.startswith("https:") and not is_loopback(parts.hostname or "")
    )
