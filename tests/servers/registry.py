"""A registry in this process, in memory: the distribution protocol, logins, and faults on demand.

Every request is recorded, with the bytes that its body and its answer carried. Nothing depends on a clock.

    with FakeRegistry() as server:
        server.fault(status(500), method="GET", path="/blobs/", times=2)
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from minibuild_store.digest import Digest

from tests.servers.images import SmallImage


@dataclass
class Seen:
    """One request; sizes in bytes of its body and of the answer's."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    sent: int = 0
    status: int = 0


@dataclass(frozen=True)
class Fault:
    """What to do in place of the right thing; see the functions below that make them."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    drop: bool = False
    cut: int | None = None
    change: Callable[[bytes], bytes] | None = None
    no_range: bool = False
    delay: float = 0.0
    location: Callable[[str], str] | None = None


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with `code`; header names have ``_`` for ``-``."""
    return Fault(code, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body)


def refuse(code: int, name: str, message: str = "as told") -> Fault:
    """Answer with `code` and an error body of the specification."""
    return Fault(code, body=json.dumps({"errors": [{"code": name, "message": message}]}).encode())


def drop() -> Fault:
    """Close the connection without an answer."""
    return Fault(drop=True)


def cut(after: int) -> Fault:
    """Close the connection after so many bytes of the answer's body, or of the request's for an upload."""
    return Fault(cut=after)


def change(how: Callable[[bytes], bytes]) -> Fault:
    """Send another body than the right one."""
    return Fault(change=how)


def no_range() -> Fault:
    """Know nothing of Range."""
    return Fault(no_range=True)


def slow(seconds: float) -> Fault:
    """Answer late."""
    return Fault(delay=seconds)


@dataclass
class _Rule:
    fault: Fault
    method: str
    path: re.Pattern[str]
    left: int


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


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


class FakeRegistry:
    """A context manager; `host` is what names begin with."""

    def __init__(self, *, door: Doorkeeper | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.door = door
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[Seen] = []
        self.connections = 0
        self.most_at_once = 0
        self.absolute_locations = False
        self.page = 1000
        self.least_chunk = 0
        self.lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._server = _Server(("127.0.0.1", 0), self.handler())
        self._server.registry = self
        if tls is not None:
            # the handshake is left to the connection's own thread: one that stalls must not stop the others
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.scheme = "https" if tls is not None else "http"
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def handler(self) -> type[Handler]:
        """What answers requests; servers of other protocols have their own."""
        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.drop_connections()
        self._server.server_close()
        self._thread.join()

    def fault(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1 << 30) -> None:
        """Do `fault` for the next `times` requests of `method` (any) with a path like the pattern."""
        self._rules.append(_Rule(fault, method, re.compile(path), times))

    def heal(self) -> None:
        self._rules.clear()

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for rule in self._rules:
                if rule.left and rule.method in ("", method) and rule.path.search(path):
                    rule.left -= 1
                    return rule.fault
        return None

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

    def count(self, method: str = "", path: str = "") -> int:
        """How many requests there were of `method` (any) whose path matches the pattern `path`."""
        return len(self.requests(method, path))

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        with self.lock:
            return [one for one in self.seen if method in ("", one.method) and re.search(path, one.path)]

    @property
    def bytes_sent(self) -> int:
        return sum(one.sent for one in self.requests())

    @property
    def bytes_received(self) -> int:
        return sum(one.received for one in self.requests())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: FakeRegistry

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
            self.registry.connections += 1
            self.registry.most_at_once = max(self.registry.most_at_once, len(self._open))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        """End idle keep-alive connections, so that their threads end too."""
        with self._guard:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that the other side cuts are no news here."""


class _Cut(Exception):
    """The connection is to end here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _Cut:
            self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        registry = self.server.registry
        self.seen = Seen(self.command, self.path, dict(self.headers.items()))
        with registry.lock:
            registry.seen.append(self.seen)
        self.active = registry.take_fault(self.command, self.path) or Fault()
        if self.active.delay:
            time.sleep(self.active.delay)
        if self.active.drop:
            raise _Cut
        body = self._body()
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if self.active.status:
            return self._send(self.active.status, self.active.body, dict(self.active.headers))
        if parts.path == "/token":
            return self._token(body)
        if not self._admitted(parts.path):
            return None
        with registry.lock:
            answer = self._route(parts.path, body)
        self._send(*answer)

    def _body(self) -> bytes:
        left = int(self.headers.get("Content-Length") or 0)
        limit = self.active.cut if self.command in ("PUT", "PATCH") else None
        if limit is not None and limit < left:
            data = self.rfile.read(limit)
            self.seen.received = len(data)
            upload = urlsplit(self.path).path.rpartition("/")[2]
            if self.command == "PATCH":
                self.server.registry.uploads[upload] += data
            raise _Cut
        data = self.rfile.read(left)
        self.seen.received = len(data)
        return data

    def _send(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.seen.status = code
        if self.active.change is not None and not self.active.status:
            body = self.active.change(body)
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.active.cut
        part = body if limit is None else body[:limit]
        self.seen.sent = len(part)
        self.wfile.write(part)
        if len(part) < len(body):
            self.wfile.flush()
            raise _Cut

    def _refuse(self, code: int, name: str) -> tuple[int, bytes, dict[str, str]]:
        body = json.dumps({"errors": [{"code": name, "message": name.lower().replace("_", " ")}]}).encode()
        return code, body, {}

    def _admitted(self, path: str) -> bool:
        """Whether this request may go on; if not, it is answered."""
        registry = self.server.registry
        door = registry.door
        if door is None:
            return True
        sent = self.headers.get("Authorization", "")
        needed = self._needed(path)
        if door.basic:
            if _user(sent, door) is not None:
                return True
            challenge = 'Basic realm="fake"'
        else:
            granted = (
                door.issued.get(sent.removeprefix("Bearer "), ()) if sent.startswith("Bearer ") else None
            )
            if granted is not None and needed in granted:
                return True
            realm = door.realm or f"{registry.scheme}://{registry.host}/token"
            scope = needed if door.challenge_scope is None else door.challenge_scope
            challenge = f'Bearer realm="{realm}",service="fake",scope="{scope}"'
            if granted:
                challenge += ',error="insufficient_scope"'
        code, body, _ = self._refuse(401, "UNAUTHORIZED")
        self._send(code, body, {"WWW-Authenticate": challenge})
        return False

    def _needed(self, path: str) -> str:
        match = re.match(r"/v2/(.+)/(?:blobs|manifests|tags)/", path)
        name = match[1] if match else ""
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        if "/blobs/uploads/" in path:
            action = "push"
        return f"repository:{name}:{action}"

    def _token(self, body: bytes) -> None:
        """Grant what is asked for and allowed, as token servers do: silently less, not an error."""
        door = self.server.registry.door
        assert door is not None
        if self.command == "POST":
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            user = "identity" if form.get("refresh_token") in door.identity_tokens else None
            scopes, login = form.get("scope", "").split(), True
        else:
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            login = "Authorization" in self.headers
            user = _user(self.headers.get("Authorization", ""), door)
        if login and user is None:
            return self._send(*self._refuse(401, "UNAUTHORIZED"))
        granted = []
        for scope in scopes:
            resource, _, actions = scope.rpartition(":")
            for action in actions.split(","):
                one = f"{resource}:{action}"
                if one not in door.denied and (user is not None or (door.public and action == "pull")):
                    granted.append(one)
        with self.server.registry.lock:
            value = f"token-{len(door.issued)}"
            door.issued[value] = tuple(granted)
        document: dict[str, object] = {"token": value}
        if door.expires_in is not None:
            document["expires_in"] = door.expires_in
        return self._send(200, json.dumps(document).encode())

    def _route(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
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
        return self._refuse(404, "UNSUPPORTED")

    def _blob(self, name: str, digest: str) -> tuple[int, bytes, dict[str, str]]:
        repository = self.server.registry.repositories.get(name)
        if repository is None:
            return self._refuse(404, "NAME_UNKNOWN")
        data = repository.blobs.get(digest)
        if data is None:
            return self._refuse(404, "BLOB_UNKNOWN")
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

    def _manifest(self, name: str, target: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        registry = self.server.registry
        if self.command == "PUT":
            digest = str(Digest.of(body))
            tags = [] if target.startswith("sha256:") else [target]
            registry.add_manifest(name, self.headers.get("Content-Type", ""), body, *tags)
            return 201, b"", {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        repository = registry.repositories.get(name)
        if repository is None:
            return self._refuse(404, "NAME_UNKNOWN")
        digest = repository.tags.get(target, target)
        if digest not in repository.manifests:
            return self._refuse(404, "MANIFEST_UNKNOWN")
        if self.command == "DELETE":
            del repository.manifests[digest]
            return 202, b"", {}
        media_type, data = repository.manifests[digest]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        if self.command == "HEAD":
            return 200, b"", {**headers, "Content-Length": str(len(data))}
        return 200, data, headers

    def _tags(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        registry = self.server.registry
        repository = registry.repositories.get(name)
        if repository is None:
            return self._refuse(404, "NAME_UNKNOWN")
        last = self.query.get("last", "")
        names = sorted(tag for tag in repository.tags if tag > last)
        page = names[: registry.page]
        headers = {}
        if len(page) < len(names):
            headers["Link"] = f'</v2/{name}/tags/list?last={page[-1]}&n={registry.page}>; rel="next"'
        return 200, json.dumps({"name": name, "tags": page}).encode(), headers

    def _upload(self, name: str, upload: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        registry = self.server.registry
        if self.command == "POST":
            return self._begin(name)
        data = registry.uploads.get(upload)
        if data is None:
            return self._refuse(404, "BLOB_UPLOAD_UNKNOWN")
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
            return self._refuse(400, "DIGEST_INVALID")
        registry.repository(name).blobs[digest] = bytes(data)
        del registry.uploads[upload]
        return 201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}

    def _begin(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        registry = self.server.registry
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
        door = self.server.registry.door
        if door is None or door.basic:
            return True
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return f"repository:{source}:pull" in door.issued.get(token, ())

    def _upload_headers(self, name: str, upload: str, data: bytes | bytearray) -> dict[str, str]:
        registry = self.server.registry
        base = f"{registry.scheme}://{registry.host}" if registry.absolute_locations else ""
        return {
            "Location": f"{base}/v2/{name}/blobs/uploads/{upload}?_state=a%3Db",
            "Range": f"0-{max(len(data) - 1, 0)}",
        }


def _user(header: str, door: Doorkeeper) -> str | None:
    if not header.startswith("Basic "):
        return None
    name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return name if door.users.get(name) == password else None


def serving(*, door: Doorkeeper | None = None, tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    """For fixtures: a running registry, stopped afterwards."""
    with FakeRegistry(door=door, tls=tls) as server:
        yield server
