"""Where GitHub Actions' cache service is, and what the job's token allows there.

Options and environment are those of buildx: https://docs.docker.com/build/cache/backends/gha/
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from minibuild.errors import UsageError
from minibuild.values import NamedTuple, dataclass, field

_V2_HOST = "results-receiver.actions.githubusercontent.com"
_WRITE = 2
_SCOPE = "buildkit"  # buildx's default for scope=


class Ref(NamedTuple):
    """A branch, tag or pull request whose entries a token reaches; `name` as in ``refs/heads/main``."""

    name: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Place:
    """The service and what is asked of it. `version` is that of its protocol, 1 or 2.

    `ghtoken`, where not empty, may list the entries of `repository` at `api`, GitHub's REST API.
    """

    url: str
    version: int
    token: str = field(repr=False)
    scope: str
    repository: str
    ghtoken: str = field(repr=False)
    api: str


def place_of(options: Mapping[str, str], environ: Mapping[str, str]) -> Place:
    """The service that `options`, or else `environ`, name; raises `UsageError` where something is missing."""
    wanted = int(options.get("version") or 0)
    second = options.get("url_v2", "")
    if not second and (
        wanted == 2 or environ.get("ACTIONS_CACHE_SERVICE_V2", "").lower() in ("1", "t", "true")
    ):
        second = environ.get("ACTIONS_RESULTS_URL", "")
    first = options.get("url") or environ.get("ACTIONS_CACHE_URL") or environ.get("ACTIONS_RESULTS_URL", "")
    url = second if second and wanted != 1 else first
    version = wanted or (2 if second or _V2_HOST in url else 1)
    token = options.get("token") or environ.get("ACTIONS_RUNTIME_TOKEN", "")
    if not token or not url:
        raise _missing(token, url, options.get("version"))
    if not url.startswith(("https://", "http://")) or not token.isascii() or not token.isprintable():
        raise UsageError(
            "the address or the token of the cache service is malformed",
            cure="Leave url=, url_v2= and token= out in a job of GitHub Actions.",
        )
    return Place(
        url.rstrip("/"),
        version,
        token,
        options.get("scope") or _SCOPE,
        options.get("repository") or environ.get("GITHUB_REPOSITORY", ""),
        options.get("ghtoken", ""),
        environ.get("GITHUB_API_URL", "").rstrip("/") or "https://api.github.com",
    )


def _missing(token: str, url: str, version: str | None) -> UsageError:
    address = "ACTIONS_CACHE_URL" if version == "1" else "ACTIONS_RESULTS_URL"
    names = [name for name, value in (("ACTIONS_RUNTIME_TOKEN", token), (address, url)) if not value]
    missing = " and ".join(names) + (" are" if names[1:] else " is")
    return UsageError(
        f"{missing} not set: only jobs of GitHub Actions have what "
        "its cache service wants, and there `run:` steps only after a step that exposes it, such as "
        "crazy-max/ghaction-github-runtime",
        cure="Outside of GitHub Actions use another type=, or give token= and url=.",
    )


def refs_of(token: str) -> tuple[Ref, ...]:
    """What a token's claim ``ac`` says, those first that may be written; empty where it says nothing.

    The signature is the service's to check. Servers of others hand out tokens without such a claim.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        rows = json.loads(claims["ac"])
        refs = [Ref(str(row["Scope"]), bool(int(row["Permission"]) & _WRITE)) for row in rows]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error, RecursionError):
        return ()
    return tuple(sorted(refs, key=lambda ref: not ref.writable))
