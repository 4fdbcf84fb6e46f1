"""The keys of a repository's entries from GitHub's REST API: one request for a hundred of them."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

from minibuild.cache.ghaservice import VERSION
from minibuild.cache.ghatoken import Place, Ref
from minibuild.cache.ghawire import Wire
from minibuild.registry.message import Request

_PAGE = 100
_PAGES = 100


def listed_keys(wire: Wire, place: Place, refs: Iterable[Ref], prefix: str) -> set[str]:
    """The keys that begin so of our entries that `refs` have; raises `CacheServiceError`."""
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {place.ghtoken}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    found: set[str] = set()
    for ref in refs:
        for page in range(1, _PAGES + 1):
            fields = {
                "per_page": _PAGE,
                "page": page,
                "key": prefix,
                **({"ref": ref.name} if ref.name else {}),
            }
            query = urlencode(fields, quote_via=quote)
            url = f"{place.api}/repos/{place.repository}/actions/caches?{query}"
            rows = wire.ask("list the entries", Request("GET", url, headers)).get("actions_caches") or []
            found.update(str(row.get("key")) for row in rows if row.get("version") == VERSION)
            if len(rows) < _PAGE:
                break
    return found
