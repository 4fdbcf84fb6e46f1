"""Logins of a registry: passwords, tokens and what they are good for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field


@dataclass
class Doorkeeper:
    """Who may come in: `basic` or bearer tokens; `users` by name; `public` may be pulled by anyone."""

    basic: bool = False
    users: dict[str, str] = field(default_factory=lambda: {"bob": "secret"})
    identity_tokens: tuple[str, ...] = ("identity",)
    public: bool = False
    expires_in: int | None = 300
    realm: str = ""
    challenge_scope: str | None = None
    denied: tuple[str, ...] = ()
    issued: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def challenge(self, authorization: str, needed: str, realm: str) -> str:
        """What is wanted before a request for the scope `needed` goes on; "" where nothing is."""
        if self.basic:
            return "" if self.user(authorization) is not None else 'Basic realm="fake"'
        granted = self.granted(authorization)
        if granted is not None and needed in granted:
            return ""
        scope = needed if self.challenge_scope is None else self.challenge_scope
        challenge = f'Bearer realm="{self.realm or realm}",service="fake",scope="{scope}"'
        return challenge + (',error="insufficient_scope"' if granted else "")

    def granted(self, authorization: str) -> tuple[str, ...] | None:
        """The scopes of a token that was issued here."""
        kind, _, token = authorization.partition(" ")
        return self.issued.get(token, ()) if kind == "Bearer" else None

    def user(self, authorization: str) -> str | None:
        """Whose name and password these are."""
        if not authorization.startswith("Basic "):
            return None
        name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return name if self.users.get(name) == password else None

    def token(self, scopes: list[str], user: str | None) -> bytes:
        """Grant what is asked for and allowed, as token servers do: silently less, not an error."""
        granted = []
        for scope in scopes:
            resource, _, actions = scope.rpartition(":")
            for action in actions.split(","):
                one = f"{resource}:{action}"
                if one not in self.denied and (user is not None or (self.public and action == "pull")):
                    granted.append(one)
        value = f"token-{len(self.issued)}"
        self.issued[value] = tuple(granted)
        document: dict[str, object] = {"token": value}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return json.dumps(document).encode()
