"""``WWW-Authenticate`` (RFC 9110, 11.6.1), ``Link`` (RFC 8288) and token scopes, as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from minibuild.values import dataclass, field

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|(?=,)|\Z)")
_PARAM = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*')
_TOKEN68 = re.compile(r"\s*[A-Za-z0-9\-._~+/]+=*\s*(?=,|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_LINK = re.compile(r"\s*<([^>]*)>((?:\s*;\s*[^,;\"]*(?:\"[^\"]*\")?[^,;]*)*)\s*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a server wants to see: `scheme` in lower case, and its parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return self.parameters.get(name, "")


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Every challenge of one header value; stops at the first thing that is none."""
    found: list[Challenge] = []
    at = 0
    while at < len(header):
        if header[at] in ", \t":
            at += 1
            continue
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        at = _read_parameters(header, at, parameters)
        found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)


def _read_parameters(header: str, at: int, into: dict[str, str]) -> int:
    """Read ``a=b, c="d"`` from `at` until a new scheme or the end; returns where."""
    while param := _PARAM.match(header, at):
        name, quoted, plain = param.groups()
        into.setdefault(name.lower(), plain if quoted is None else _ESCAPE.sub(r"\1", quoted))
        at = param.end()
        comma = re.compile(r"[\s,]*").match(header, at)
        after = comma.end() if comma else at
        if after == at or not _PARAM.match(header, after):
            return after
        at = after
    if not into and (blob := _TOKEN68.match(header, at)):
        return blob.end()
    return at


def next_link(header: str) -> str:
    """The target of the link with ``rel="next"``, as given (perhaps relative); empty if there is none."""
    at = 0
    while link := _LINK.match(header, at):
        target, parameters = link.groups()
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "rel" and "next" in value.strip().strip('"').lower().split():
                return target.strip()
        at = link.end()
        if at < len(header) and header[at] == ",":
            at += 1
        elif link.end() == link.start():
            break
    return ""


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a token allows: actions by resource (``repository:library/debian``), normal form, hashable."""

    items: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, *texts: str) -> Scopes:
        """From ``type:name:action,action`` texts; several may stand in one text, parted by spaces."""
        merged: dict[str, set[str]] = {}
        for text in " ".join(texts).split():
            resource, _, actions = text.rpartition(":")
            if resource:
                merged.setdefault(resource, set()).update(filter(None, actions.split(",")))
        return cls(tuple((name, tuple(sorted(merged[name]))) for name in sorted(merged)))

    def __or__(self, other: Scopes) -> Scopes:
        return Scopes.of(*self.texts, *other.texts)

    def covers(self, other: Scopes) -> bool:
        """Whether a token for these will do for `other`."""
        own = dict(self.items)
        return all(set(actions) <= set(own.get(name, ())) for name, actions in other.items)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(f"{name}:{','.join(actions)}" for name, actions in self.items)


def pull_scope(repository: str) -> Scopes:
    return Scopes.of(f"repository:{repository}:pull")


def push_scope(repository: str, mount_from: Iterable[str] = ()) -> Scopes:
    """To push to `repository`, mounting blobs of the repositories `mount_from`."""
    return Scopes.of(
        f"repository:{repository}:pull,push", *(f"repository:{other}:pull" for other in mount_from)
    )


def delete_scope(repository: str) -> Scopes:
    return Scopes.of(f"repository:{repository}:delete,pull")
