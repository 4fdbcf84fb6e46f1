"""GitHub Actions' cache service in this process, in memory: both versions, and no more than they allow.

Keys are written once, by tokens that may, and only what is committed is found: by its beginning, the newest
of the first ref that has one. Bytes of version 2 go to signed addresses by the rules of Azure's block blobs.

    with ActionsCache() as server:
        options = server.options(2, server.token())
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from tests.servers.faulty import Answer, FaultyHandler, FaultyServer

MAIN = "refs/heads/main"
READ, WRITE = 1, 3
REPOSITORY = "someone/project"
REST_TOKEN = "rest-token"
_ACCEPT = "application/json;api-version=6.0-preview.1"
_TWIRP = "/twirp/github.actions.results.api.v1.CacheService/"
_SECRET = b"the service's own"
_LONGEST = 512


@dataclass
class CacheEntry:
    """`data` is None until it is committed; `pieces` by offset (version 1), `blocks` by id (version 2)."""

    number: int
    ref: str
    key: str
    version: str
    data: bytes | None = None
    pieces: dict[int, bytes] = field(default_factory=dict)
    blocks: dict[str, bytes] = field(default_factory=dict)
    blob: bytes | None = None


class ActionsCache(FaultyServer):
    """A context manager; `url` is its address."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[CacheEntry] = []
        self.epoch = 0
        self.made = 0

    def handler(self) -> type[FaultyHandler]:
        return _Handler

    def token(self, *refs: tuple[str, int]) -> str:
        """A job's token; by default one of the main branch."""
        rows = [{"Scope": name, "Permission": permission} for name, permission in refs or ((MAIN, WRITE),)]
        payload = _base64(json.dumps({"ac": json.dumps(rows)}).encode())
        return f"e30.{payload}.{_sign(payload)}"

    @property
    def url(self) -> str:
        """The address that a job is given; its path is a secret in version 1."""
        return f"http://{self.host}/hidden-path/"

    def options(self, version: int, token: str) -> str:
        return f"type=gha,url={self.url},version={version},token={token}"

    def environment(self, version: int, token: str) -> dict[str, str]:
        """What a job finds in its environment."""
        address = {1: "ACTIONS_CACHE_URL", 2: "ACTIONS_RESULTS_URL"}[version]
        second = {"ACTIONS_CACHE_SERVICE_V2": "True"} if version == 2 else {}
        return {"ACTIONS_RUNTIME_TOKEN": token, address: self.url, **second}

    def held(self, pattern: str) -> list[CacheEntry]:
        """The committed entries whose key matches."""
        return [one for one in self.entries if one.data is not None and re.search(pattern, one.key)]

    def evict(self, pattern: str) -> None:
        self.entries = [one for one in self.entries if not re.search(pattern, one.key)]

    def expire(self) -> None:
        """Let no address that was signed be good any more."""
        self.epoch += 1

    def find(self, refs: list[tuple[str, int]], prefixes: list[str], version: str) -> CacheEntry | None:
        for ref, _ in refs:
            for prefix in prefixes:
                for one in reversed(self.entries):
                    if (one.ref, one.version) != (ref, version) or one.data is None:
                        continue
                    if one.key.startswith(prefix):
                        return one
        return None

    def signed(self, entry: CacheEntry, right: str) -> str:
        sig = _sign(f"{self.epoch} {entry.number} {right}")
        return f"http://{self.host}/blobs/{entry.number}?sp={right}&sig={sig}"


class _Handler(FaultyHandler):
    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return super()._body()
        data = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):  # as BuildKit sends pieces
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, path: str, body: bytes) -> Answer:
        if match := re.match(r"/blobs/(\d+)\Z", path):
            return self._blob(int(match[1]), body)
        if path == f"/repos/{REPOSITORY}/actions/caches":
            return self._listing()
        refs = self._refs()
        if refs is None:
            return _json(401, {"message": f"bad token {self.headers.get('Authorization', '')}"})
        path = path.removeprefix("/hidden-path")
        if path.startswith(_TWIRP):
            return self._twirp(path.removeprefix(_TWIRP), refs, body)
        if path.startswith("/_apis/artifactcache/"):
            return self._rest(path.removeprefix("/_apis/artifactcache/"), refs, body)
        return _json(404, {"code": "bad_route", "msg": "no such route"})

    @property
    def cache(self) -> ActionsCache:
        assert isinstance(self.server.owner, ActionsCache)
        return self.server.owner

    def _refs(self) -> list[tuple[str, int]] | None:
        """What the token allows; None where it is none of ours."""
        _, payload, signature = f"{self.headers.get('Authorization', '').removeprefix('Bearer ')}..".split(
            "."
        )[:3]
        if not hmac.compare_digest(signature, _sign(payload)):
            return None
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        rows = [(row["Scope"], row["Permission"]) for row in json.loads(claims["ac"])]
        return sorted(rows, key=lambda row: -row[1])

    def _reserve(self, refs: list[tuple[str, int]], key: str, version: str) -> CacheEntry | Answer:
        writable = [ref for ref, permission in refs if permission & 2]
        if not writable:
            return _json(403, {"code": "permission_denied", "msg": "the token may not write"})
        if not key or len(key) > _LONGEST or "," in key or not version:
            return _json(400, {"code": "invalid_argument", "msg": "bad key"})
        if any((one.ref, one.key, one.version) == (writable[0], key, version) for one in self.cache.entries):
            text = {"typeKey": "ArtifactCacheItemAlreadyExistsException", "message": "Cache already exists."}
            code, body, headers = _json(409, {**text, "code": "already_exists", "msg": "cache entry exists"})
            return code, b"\xef\xbb\xbf" + body, headers  # as GitHub's errors of version 1 begin
        self.cache.made += 1
        entry = CacheEntry(self.cache.made, writable[0], key, version)
        self.cache.entries.append(entry)
        return entry

    def _twirp(self, method: str, refs: list[tuple[str, int]], body: bytes) -> Answer:
        if self.command != "POST" or self.headers.get("Content-Type") != "application/json":
            return _json(404, {"code": "bad_route", "msg": "want POST of application/json"})
        asked = json.loads(body)
        if method == "CreateCacheEntry" and set(asked) == {"key", "version"}:
            made = self._reserve(refs, asked["key"], asked["version"])
            if not isinstance(made, CacheEntry):
                return made
            return _json(200, {"ok": True, "signed_upload_url": self.cache.signed(made, "w")})
        if method == "FinalizeCacheEntryUpload" and set(asked) == {"key", "version", "size_bytes"}:
            return self._finalize(refs, asked)
        if method == "GetCacheEntryDownloadURL" and set(asked) == {"key", "restore_keys", "version"}:
            found = self.cache.find(refs, [asked["key"], *asked["restore_keys"]], asked["version"])
            if found is None:
                return _json(200, {"ok": False, "signed_download_url": "", "matched_key": ""})
            address = self.cache.signed(found, "r")
            return _json(200, {"ok": True, "signed_download_url": address, "matched_key": found.key})
        return _json(400, {"code": "malformed", "msg": "no such method, or not these fields"})

    def _finalize(self, refs: list[tuple[str, int]], asked: dict[str, Any]) -> Answer:
        wanted = (asked["key"], asked["version"])
        open_ = [one for one in self.cache.entries if (one.key, one.version) == wanted and one.data is None]
        writable = [ref for ref, permission in refs if permission & 2]
        entry = next((one for one in open_ if one.ref in writable), None)
        if entry is None or entry.blob is None or len(entry.blob) != int(asked["size_bytes"]):
            return _json(200, {"ok": False, "message": "nothing was sent, or not as much"})
        return self._commit(entry, entry.blob, _json(200, {"ok": True, "entry_id": str(entry.number)}))

    def _rest(self, path: str, refs: list[tuple[str, int]], body: bytes) -> Answer:
        if self.headers.get("Accept") != _ACCEPT:
            return _json(400, {"message": "no version of the API is accepted"})
        if (self.command, path) == ("GET", "cache"):
            found = self.cache.find(refs, self.query["keys"].split(","), self.query["version"])
            if found is None:
                return 204, b"", {}
            address = self.cache.signed(found, "r")
            return _json(200, {"cacheKey": found.key, "scope": found.ref, "archiveLocation": address})
        if (self.command, path) == ("POST", "caches"):
            asked = json.loads(body)
            made = self._reserve(refs, asked["key"], asked["version"])
            return _json(201, {"cacheId": made.number}) if isinstance(made, CacheEntry) else made
        match = re.match(r"caches/(\d+)\Z", path)
        entry = self._entry(int(match[1])) if match else None
        if entry is None or entry.data is not None:
            return _json(404, {"message": "no such upload"})
        if self.command == "PATCH":
            span = re.match(r"bytes (\d+)-(\d+)/\*\Z", self.headers.get("Content-Range", ""))
            if span is None or int(span[2]) - int(span[1]) + 1 != len(body):
                return _json(400, {"message": "bad Content-Range"})
            entry.pieces[int(span[1])] = body
            return 204, b"", {}
        data = b""
        for offset in sorted(entry.pieces):
            if offset != len(data):
                return _json(400, {"message": "a hole"})
            data += entry.pieces[offset]
        if len(data) != json.loads(body)["size"]:
            return _json(400, {"message": "another size than was sent"})
        return self._commit(entry, data, (204, b"", {}))

    def _commit(self, entry: CacheEntry, data: bytes, answer: Answer) -> Answer:
        entry.data = data
        self.cache.entries.remove(entry)
        self.cache.entries.append(entry)  # the newest is the last
        return answer

    def _entry(self, number: int) -> CacheEntry | None:
        return next((one for one in self.cache.entries if one.number == number), None)

    def _blob(self, number: int, body: bytes) -> Answer:
        entry = self._entry(number)
        right = "w" if self.command == "PUT" else "r"
        if entry is None:
            return 404, b"<Error><Code>BlobNotFound</Code></Error>", {}
        if self.query.get("sig") != _sign(f"{self.cache.epoch} {number} {right}"):
            return 403, b"<Error><Code>AuthenticationFailed</Code></Error>", {}
        if "Authorization" in self.headers:
            return 400, b"<Error><Code>InvalidAuthenticationInfo</Code></Error>", {}
        return self._read(entry) if right == "r" else self._put(entry, body)

    def _read(self, entry: CacheEntry) -> Answer:
        assert entry.data is not None
        wanted = re.match(r"bytes=(\d+)-\Z", self.headers.get("Range") or self.headers.get("x-ms-range", ""))
        if wanted is None or self.active.no_range:
            return 200, entry.data, {}
        start = int(wanted[1])
        if start >= len(entry.data):
            return 416, b"", {}
        span = f"bytes {start}-{len(entry.data) - 1}/{len(entry.data)}"
        return 206, entry.data[start:], {"Content-Range": span}

    def _put(self, entry: CacheEntry, body: bytes) -> Answer:
        refused = (400, b"<Error><Code>InvalidHeaderValue</Code></Error>", {})
        comp = self.query.get("comp", "")
        if "x-ms-version" not in self.headers:
            return refused
        if comp == "block":
            name = self.query["blockid"]
            if (
                len(base64.b64decode(name, validate=True)) > 64
                or len({len(one) for one in (name, *entry.blocks)}) > 1
            ):
                return refused
            entry.blocks[name] = body
        elif comp == "blocklist":
            names = [one.text or "" for one in ElementTree.fromstring(body).findall("Latest")]
            if not set(names) <= set(entry.blocks):
                return 400, b"<Error><Code>InvalidBlockList</Code></Error>", {}
            entry.blob = b"".join(entry.blocks[name] for name in names)
        elif self.headers.get("x-ms-blob-type") == "BlockBlob":
            entry.blob = body
        else:
            return refused
        return 201, b"", {"x-ms-request-id": "1"}

    def _listing(self) -> Answer:
        if self.headers.get("Authorization") != f"Bearer {REST_TOKEN}":
            return _json(401, {"message": "Bad credentials"})
        wanted, ref = self.query.get("key", ""), self.query.get("ref", "")
        rows = [
            {"id": one.number, "ref": one.ref, "key": one.key, "version": one.version}
            for one in self.cache.held(f"^{re.escape(wanted)}")
            if ref in ("", one.ref)
        ]
        size = int(self.query.get("per_page", "30"))
        first = (int(self.query.get("page", "1")) - 1) * size
        return _json(200, {"total_count": len(rows), "actions_caches": rows[first : first + size]})


def _json(code: int, document: dict[str, Any]) -> Answer:
    return code, json.dumps(document).encode(), {"Content-Type": "application/json"}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _sign(text: str) -> str:
    return quote(_base64(hmac.digest(_SECRET, text.encode(), hashlib.sha256)))
