"""What a registry can do to a build, as errors with a method, a redacted URL, a status and the spec's codes.

RegistryError
├── Unreachable       no connection, or it was cut and stayed cut
│   └── Untrusted     its certificate is of no authority that is known here
├── Unauthorized      401 or 403; says which credentials were tried and where from
├── NotFound          404 for a repository, tag, manifest or blob
├── RateLimited       429 after all retries
├── Refused           any other status that is not what was asked for
├── BadAnswer         the answer is not what the distribution specification promises
└── DigestMismatch    the bytes are not those the digest names; `got` and `want`
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit, urlunsplit

from minibuild.errors import MinibuildError, SourceRange
from minibuild.values import dataclass

_URL = re.compile(r"https?://[^\s\"'<>]+")


class RegistryError(MinibuildError):
    """A registry refused, failed or answered nonsense; `status` is None where no answer came.

    `temporary` says that the same request may succeed later.
    """

    def __init__(
        self,
        message: str,
        *,
        cure: str = "",
        where: SourceRange | None = None,
        method: str = "",
        url: str = "",
        status: int | None = None,
        codes: tuple[str, ...] = (),
        temporary: bool = False,
    ) -> None:
        super().__init__(message, cure=cure, where=where)
        self.method = method
        self.url = redact(url)
        self.status = status
        self.codes = codes
        self.temporary = temporary


class Unreachable(RegistryError):
    """No answer came from the registry."""


class Untrusted(Unreachable):
    """The registry's certificate is of no authority that is known here."""


class Unauthorized(RegistryError):
    """The registry wants other credentials, or these may not do what was asked."""


class NotFound(RegistryError):
    """The registry has no such repository, tag, manifest or blob."""


class RateLimited(RegistryError):
    """The registry's limit on requests is used up."""


class Refused(RegistryError):
    """The registry answered with a status that is neither success nor one of the above."""


class BadAnswer(RegistryError):
    """The registry's answer breaks the distribution specification."""


class DigestMismatch(RegistryError):
    """The registry sent other bytes than the digest names."""

    def __init__(self, message: str, *, got: str, want: str, url: str = "") -> None:
        super().__init__(
            f"{message}: got {got}, want {want}",
            cure="The registry or a proxy before it sent wrong data: try again or try another mirror.",
            method="GET",
            url=url,
        )
        self.got = got
        self.want = want


@dataclass(frozen=True, slots=True)
class SpecError:
    """One entry of the error body of the distribution specification."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


def read_errors(body: bytes) -> tuple[SpecError, ...]:
    """The errors in the body of a failed request; empty where it is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    entries = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return ()
    found = []
    for entry in entries[:8]:
        if isinstance(entry, dict) and isinstance(code := entry.get("code"), str):
            message = entry.get("message")
            found.append(SpecError(printable(code), printable(message if isinstance(message, str) else "")))
    return tuple(found)


def redact(url: str) -> str:
    """`url` fit for a message: no user, no password, no query (signed URLs carry their secret there)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(malformed URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "..." if parts.query else "", ""))


def redact_text(text: str) -> str:
    """`text` with every URL in it redacted."""
    return _URL.sub(lambda match: redact(match.group()), text)


def printable(text: str, limit: int = 300) -> str:
    """What a server said, safe on a terminal: one line, no control characters, at most `limit` of them."""
    plain = "".join(char if char.isprintable() else " " for char in text[: 16 * limit])
    line = " ".join(redact_text(plain).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def refusal(
    method: str, url: str, status: int, reason: str, body: bytes, *, what: str = "", cure: str = ""
) -> RegistryError:
    """The error for an unwanted `status`; `what` names the thing asked for, in words."""
    said = read_errors(body)
    codes = tuple(error.code for error in said)
    detail = "; ".join(map(str, said)) or printable(body.decode("utf-8", "replace"), 120)
    line = f"{method} {redact(url)}: {status} {printable(reason, 60)}".rstrip()
    if detail and not detail.startswith("<"):  # an HTML page of some proxy says nothing on one line
        line += f" ({detail})"
    host = urlsplit(url).netloc.rpartition("@")[2].replace("registry-1.docker.io", "docker.io")
    kind: type[RegistryError] = Refused
    temporary = status in (408, 425, 429) or status >= 500
    if status in (401, 403):
        kind, line = Unauthorized, f"{what or 'the request'} was denied by {host}: {line}"
        cure = cure or f"Run 'docker login {host}' with an account that has access."
    elif status == 404:
        kind, line = NotFound, f"{host} has no {what}: {line}" if what else line
    elif status == 429:
        kind, line = RateLimited, f"{host} limits the rate of requests: {line}"
        cure = cure or f"Wait, run 'docker login {host}' for a higher limit, or use a --registry-mirror."
    elif status == 400 and b"HTTP request to an HTTPS server" in body:
        cure = f'{host} speaks TLS: set insecure = false under [registry."{host}"] in the config file.'
    elif temporary:
        cure = cure or f"{host} is in trouble: try again later or use a --registry-mirror."
    return kind(line, cure=cure, method=method, url=url, status=status, codes=codes, temporary=temporary)
