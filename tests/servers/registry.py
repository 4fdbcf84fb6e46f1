"""A registry in this process, in memory: the distribution protocol, logins, and faults on demand.

with FakeRegistry() as server:
    server.fault(status(500), method="GET", path="/blobs/", times=2)
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from minibuild_store.digest import Digest

from tests.servers.doorkeeper import Doorkeeper
from tests.servers.faulty import Answer, FaultyHandler, FaultyServer
from tests.servers.images import SmallImage


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class FakeRegistry(FaultyServer):
    """A context manager; `host` is what names begin with."""

    def __init__(self, *, door: Doorkeeper | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.door = door
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytearray] = {}
        self.absolute_locations = False
        self.page = 1000
        self.least_chunk = 0

    def handler(self) -> type[FaultyHandler]:
        return _Handler

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def add(self, name: str, image: SmallImage, *tags: str) -> None:
        """Put an image there without any request."""
        repository = self.repository(name)
        repository.blobs |= {str(digest): data for digest, data in image.content.items()}
        self.add_manifest(name, image.manifest.media_type, image.manifest.raw, *tags)

    def add_manifest(self, name: str, media_type: str, data: bytes, *tags: str) -> None:
        repository = self.repository(name)
        digest = str(Digest.of(data))
        repository.manifests[digest] = (media_type, data)
        repository.tags |= dict.fromkeys(tags, digest)


class _Handler(FaultyHandler):
    @property
    def registry(self) -> FakeRegistry:
        assert isinstance(self.server.owner, FakeRegistry)
        return self.server.owner

    def answer(self, path: str, body: bytes) -> Answer:
        registry = self.registry
        if registry.door is None:
            return self._route(path, body)
        if path == "/token":
            return self._token(registry.door, body)
        realm = f"{registry.scheme}://{registry.host}/token"
        sent = self.headers.get("Authorization", "")
        challenge = registry.door.challenge(sent, self._needed(path), realm)
        if not challenge:
            return self._route(path, body)
        return *_refusal(401, "UNAUTHORIZED")[:2], {"WWW-Authenticate": challenge}

    def cut_off(self, data: bytes) -> None:
        if self.command == "PATCH":
            self.registry.uploads[urlsplit(self.path).path.rpartition("/")[2]] += data

    def _needed(self, path: str) -> str:
        match = re.match(r"/v2/(.+)/(?:blobs|manifests|tags)/", path)
        name = match[1] if match else ""
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        if "/blobs/uploads/" in path:
            action = "push"
        return f"repository:{name}:{action}"

    def _token(self, door: Doorkeeper, body: bytes) -> Answer:
        if self.command == "POST":
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            user = "identity" if form.get("refresh_token") in door.identity_tokens else None
            scopes, login = form.get("scope", "").split(), True
        else:
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            login = "Authorization" in self.headers
            user = door.user(self.headers.get("Authorization", ""))
        if login and user is None:
            return _refusal(401, "UNAUTHORIZED")
        return 200, door.token(scopes, user), {}

    def _route(self, path: str, body: bytes) -> Answer:
        if path in ("/v2", "/v2/"):
            return 200, b"{}", {}
        if match := re.match(r"/v2/(.+)/blobs/uploads/([^/]*)\Z", path):
            return self._upload(match[1], match[2], body)
        if match := re.match(r"/v2/(.+)/blobs/([^/]+)\Z", path):
            return self._blob(match[1], match[2])
        if match := re.match(r"/v2/(.+)/manifests/([^/]+)\Z", path):
            return self._manifest(match[1], match[2], body)
        if match := re.match(r"/v2/(.+)/tags/list\Z", path):
            return self._tags(match[1])
        return _refusal(404, "UNSUPPORTED")

    def _blob(self, name: str, digest: str) -> Answer:
        repository = self.registry.repositories.get(name)
        if repository is None:
            return _refusal(404, "NAME_UNKNOWN")
        data = repository.blobs.get(digest)
        if data is None:
            return _refusal(404, "BLOB_UNKNOWN")
        headers = {"Docker-Content-Digest": digest}
        if self.command == "HEAD":
            return 200, b"", {**headers, "Content-Length": str(len(data))}
        wanted = re.match(r"bytes=(\d+)-\Z", self.headers.get("Range", ""))
        if wanted is None or self.active.no_range:
            return 200, data, headers
        start = int(wanted[1])
        if start >= len(data):
            return 416, b"", {}
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return 206, data[start:], headers

    def _manifest(self, name: str, target: str, body: bytes) -> Answer:
        registry = self.registry
        if self.command == "PUT":
            digest = str(Digest.of(body))
            tags = [] if target.startswith("sha256:") else [target]
            registry.add_manifest(name, self.headers.get("Content-Type", ""), body, *tags)
            return 201, b"", {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        repository = registry.repositories.get(name)
        if repository is None:
            return _refusal(404, "NAME_UNKNOWN")
        digest = repository.tags.get(target, target)
        if digest not in repository.manifests:
            return _refusal(404, "MANIFEST_UNKNOWN")
        if self.command == "DELETE":
            del repository.manifests[digest]
            return 202, b"", {}
        media_type, data = repository.manifests[digest]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        if self.command == "HEAD":
            return 200, b"", {**headers, "Content-Length": str(len(data))}
        return 200, data, headers

    def _tags(self, name: str) -> Answer:
        registry = self.registry
        repository = registry.repositories.get(name)
        if repository is None:
            return _refusal(404, "NAME_UNKNOWN")
        last = self.query.get("last", "")
        names = sorted(tag for tag in repository.tags if tag > last)
        page = names[: registry.page]
        headers = {}
        if len(page) < len(names):
            headers["Link"] = f'</v2/{name}/tags/list?last={page[-1]}&n={registry.page}>; rel="next"'
        return 200, json.dumps({"name": name, "tags": page}).encode(), headers

    def _upload(self, name: str, upload: str, body: bytes) -> Answer:
        registry = self.registry
        if self.command == "POST":
            return self._begin(name)
        data = registry.uploads.get(upload)
        if data is None:
            return _refusal(404, "BLOB_UPLOAD_UNKNOWN")
        if self.command == "DELETE":
            del registry.uploads[upload]
            return 204, b"", {}
        if self.command == "GET":
            return 204, b"", self._upload_headers(name, upload, data)
        if self.command == "PATCH":
            start = int(self.headers.get("Content-Range", "0-").partition("-")[0])
            if start != len(data):
                return 416, b"", self._upload_headers(name, upload, data)
            data += body
            return 202, b"", self._upload_headers(name, upload, data)
        data += body
        digest = self.query.get("digest", "")
        if Digest.of(bytes(data)) != digest:
            return _refusal(400, "DIGEST_INVALID")
        registry.repository(name).blobs[digest] = bytes(data)
        del registry.uploads[upload]
        return 201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}

    def _begin(self, name: str) -> Answer:
        registry = self.registry
        digest, source = self.query.get("mount", ""), self.query.get("from", "")
        if digest and source in registry.repositories:
            data = registry.repositories[source].blobs.get(digest)
            if data is not None and self._may_mount(source):
                registry.repository(name).blobs[digest] = data
                return 201, b"", {"Location": f"/v2/{name}/blobs/{digest}"}
        upload = f"upload-{len(registry.seen)}"
        registry.uploads[upload] = bytearray()
        least = {"OCI-Chunk-Min-Length": str(registry.least_chunk)} if registry.least_chunk else {}
        return 202, b"", {**self._upload_headers(name, upload, b""), **least}

    def _may_mount(self, source: str) -> bool:
        door = self.registry.door
        if door is None or door.basic:
            return True
        return f"repository:{source}:pull" in (door.granted(self.headers.get("Authorization", "")) or ())

    def _upload_headers(self, name: str, upload: str, data: bytes | bytearray) -> dict[str, str]:
        registry = self.registry
        base = f"{registry.scheme}://{registry.host}" if registry.absolute_locations else ""
        return {
            "Location": f"{base}/v2/{name}/blobs/uploads/{upload}?_state=a%3Db",
            "Range": f"0-{max(len(data) - 1, 0)}",
        }


def _refusal(code: int, name: str) -> Answer:
    body = json.dumps({"errors": [{"code": name, "message": name.lower().replace("_", " ")}]}).encode()
    return code, body, {}
