"""GitHub Actions' cache service: entries that are written once, found by key or by the beginning of one.

Both protocols are undocumented; they are those of GitHub's own client, @actions/cache. Version 1 is REST at
``_apis/artifactcache`` and takes the bytes itself; version 2 is Twirp and hands out signed addresses of Azure
blobs. In both a key is reserved, then its bytes are sent, then it is committed; nothing undoes a reservation.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol
from urllib.parse import quote, urlencode
from uuid import uuid4

from minibuild.cache.ghatoken import Place
from minibuild.cache.ghawire import Taken, Wire, says_taken
from minibuild.registry.message import Body, Request
from minibuild.registry.parallel import Job, run_all, stop_if
from minibuild.values import NamedTuple

VERSION = hashlib.sha256(b"minibuild-cache-1").hexdigest()
"""The name space of our entries: clients hash what an entry is made of, and see no entries of others."""

_CHUNK = 32 << 20  # what @actions/cache sends at once
_PARALLEL = 4
_OCTETS = "application/octet-stream"
_AZURE = {"x-ms-version": "2020-10-02"}


class Entry(NamedTuple):
    """What was found: its whole key, and an address of its bytes that needs no token and expires."""

    key: str
    url: str


class Content(NamedTuple):
    """What is sent; `opener` gives it from its first byte, and may be called for every piece of it."""

    opener: Callable[[], IO[bytes]]
    size: int

    def pieces(self) -> list[tuple[int, int]]:
        """Offset and size of each."""
        return [(at, min(_CHUNK, self.size - at)) for at in range(0, self.size, _CHUNK)]

    def upload(self, offset: int, size: int, stop: threading.Event) -> Body:
        def opened() -> IO[bytes]:
            source = self.opener()
            source.seek(offset)
            return source

        return Body(opened, size, lambda _: stop_if(stop))


class Service(Protocol):
    """One version of the protocol. Every method raises `CacheServiceError`."""

    def find(self, prefix: str) -> Entry | None:
        """The newest entry whose key begins so, of the job's own ref or else of one that it may read."""

    def reserve(self, key: str) -> str | None:
        """A handle for the two methods below; None where the key is taken, if only by a job that died."""

    def send(self, handle: str, content: Content, stop: threading.Event) -> None:
        """Put the bytes where they belong."""

    def commit(self, key: str, handle: str, size: int) -> None:
        """Let the entry be found from now on."""


def service_of(place: Place, wire: Wire) -> Service:
    return TwirpService(wire, place.url) if place.version == 2 else RestService(wire, place.url)


class RestService:
    """Version 1, which GitHub Enterprise Server, Gitea, Forgejo and act speak."""

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire = wire
        self._base = f"{url}/_apis/artifactcache"
        self._headers = {"Accept": "application/json;api-version=6.0-preview.1"}

    def find(self, prefix: str) -> Entry | None:
        query = urlencode({"keys": prefix, "version": VERSION}, quote_via=quote)
        request = Request("GET", f"{self._base}/cache?{query}", self._headers)
        answer = self._wire.ask("find an entry", request)
        return _entry(answer, prefix, "cacheKey", "archiveLocation")

    def reserve(self, key: str) -> str | None:
        try:
            answer = self._post("reserve an entry", "caches", {"key": key, "version": VERSION})
        except Taken:
            return None
        number = answer.get("cacheId") or answer.get("cacheID")
        if number is None:
            raise self._wire.failure("reserve an entry", self._base, "its answer has no cacheId")
        return str(number)

    def send(self, handle: str, content: Content, stop: threading.Event) -> None:
        def patch(offset: int, size: int) -> Job:
            headers = {
                **self._headers,
                "Content-Type": _OCTETS,
                "Content-Range": f"bytes {offset}-{offset + size - 1}/*",
            }

            def send(inner: threading.Event) -> None:
                stop_if(stop)
                body = content.upload(offset, size, inner)
                url = f"{self._base}/caches/{handle}"
                self._wire.ask("send an entry", Request("PATCH", url, headers, body))

            return send

        run_all([patch(*piece) for piece in content.pieces()], _PARALLEL)

    def commit(self, key: str, handle: str, size: int) -> None:
        self._post("commit an entry", f"caches/{handle}", {"size": size})

    def _post(self, what: str, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return self._wire.post(what, f"{self._base}/{path}", document, self._headers)


class TwirpService:
    """Version 2, GitHub's own."""

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire = wire
        self._base = f"{url}/twirp/github.actions.results.api.v1.CacheService"

    def find(self, prefix: str) -> Entry | None:
        document = {"key": prefix, "restore_keys": [prefix], "version": VERSION}
        answer = self._wire.post("find an entry", f"{self._base}/GetCacheEntryDownloadURL", document)
        if not answer.get("ok"):
            return None
        return _entry(answer, prefix, "matched_key", "signed_download_url")

    def reserve(self, key: str) -> str | None:
        document = {"key": key, "version": VERSION}
        try:
            answer = self._wire.post("reserve an entry", f"{self._base}/CreateCacheEntry", document)
        except Taken:
            return None
        address = _field(answer, "signed_upload_url")
        said = str(answer.get("message") or "")
        if answer.get("ok") and address:
            return address
        if answer.get("ok") or (said and not says_taken(said)):
            raise self._wire.failure("reserve an entry", self._base, said or "its answer has no address")
        return None

    def send(self, handle: str, content: Content, stop: threading.Event) -> None:
        pieces = content.pieces()
        if len(pieces) <= 1:
            headers = {**_AZURE, "x-ms-blob-type": "BlockBlob", "Content-Type": _OCTETS}
            self._wire.put("send an entry", handle, headers, content.upload(0, content.size, stop))
            return
        # ids of one length, as Azure wants; servers that emulate it read the number that its client puts last
        blob = uuid4()
        names = [b64encode(f"{blob}{number:012d}".encode()).decode() for number in range(len(pieces))]

        def block(name: str, offset: int, size: int) -> Job:
            address = f"{handle}{'&' if '?' in handle else '?'}comp=block&blockid={quote(name, safe='')}"

            def send(inner: threading.Event) -> None:
                stop_if(stop)
                self._wire.put("send an entry", address, {**_AZURE}, content.upload(offset, size, inner))

            return send

        run_all([block(name, *piece) for name, piece in zip(names, pieces, strict=True)], _PARALLEL)
        blocks = "".join(f"<Latest>{name}</Latest>" for name in names)
        text = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'
        address = f"{handle}{'&' if '?' in handle else '?'}comp=blocklist"
        headers = {**_AZURE, "Content-Type": "application/xml", "x-ms-blob-content-type": _OCTETS}
        self._wire.put("send an entry", address, headers, text.encode())

    def commit(self, key: str, handle: str, size: int) -> None:
        # the JSON of protocol buffers has numbers of 64 bits as text
        document = {"key": key, "size_bytes": str(size), "version": VERSION}
        answer = self._wire.post("commit an entry", f"{self._base}/FinalizeCacheEntryUpload", document)
        if not answer.get("ok"):
            raise self._wire.failure(
                "commit an entry", self._base, str(answer.get("message") or "it says no more")
            )


def _field(answer: Mapping[str, Any], name: str) -> str:
    """A field by its name, or as protocol buffers' JSON has it by default; "" where there is none."""
    first, *rest = name.split("_")
    return str(answer.get(name) or answer.get(first + "".join(map(str.capitalize, rest))) or "")


def _entry(answer: Mapping[str, Any], prefix: str, key: str, url: str) -> Entry | None:
    entry = Entry(_field(answer, key), _field(answer, url))
    # some servers fold the case of keys
    return entry if entry.url and entry.key.lower().startswith(prefix.lower()) else None
