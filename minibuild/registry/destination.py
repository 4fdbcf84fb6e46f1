"""The repository that is pushed to: what it has, and the single requests of a push."""

from __future__ import annotations

import contextlib
from urllib.parse import urlencode, urljoin, urlsplit

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import MAX_DOCUMENT, InvalidManifest, Manifest
from minibuild.oci.mediatype import INDEXES, MANIFESTS
from minibuild.oci.reference import Reference
from minibuild.registry.challenge import push_scope
from minibuild.registry.errors import BadAnswer, DigestMismatch, RegistryError, Unauthorized, redact
from minibuild.registry.message import Body, Response
from minibuild.registry.mirrors import origin
from minibuild.registry.session import Session

_OCTETS = "application/octet-stream"


class Destination:
    """Thread-safe. An upload goes by its location, an absolute URL that the registry gives."""

    def __init__(self, session: Session, ref: Reference) -> None:
        self.session = session
        self.ref = ref
        self.place = origin(ref, session.options)
        self.least_chunk = 0
        """The least bytes of a piece that the registry takes, once it has said so."""
        self._scopes = push_scope(self.place.repository)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there; raises `Unauthorized` where that is not told to us."""
        response = self.send("HEAD", self.place.url(f"blobs/{descriptor.digest}"))
        response.close()
        if response.status in (401, 403):
            raise self.refused(response)
        # what else it says, the upload will say better
        return response.status == 200 and response.size in (None, descriptor.size)

    def digest_at(self, target: str) -> str:
        """What `target` names now, as far as a HEAD tells; empty if nothing."""
        headers = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        response = self.send("HEAD", self.place.url(f"manifests/{target}"), headers=headers)
        response.close()
        return response.header("Docker-Content-Digest") if response.status == 200 else ""

    def manifest_at(self, target: str) -> tuple[Descriptor, ...]:
        """The blobs of the image that `target` names; nothing where it names something else."""
        headers = {"Accept": ", ".join(MANIFESTS)}
        url = self.place.url(f"manifests/{target}")
        response, data = self.session.transport.whole(
            lambda: self.send("GET", url, headers=headers), MAX_DOCUMENT
        )
        if response.status != 200:
            raise self.refused(response)
        try:
            manifest = Manifest.parse(data)
        except InvalidManifest:
            return ()
        return manifest.config, *manifest.layers

    def mount(self, descriptor: Descriptor, repository: str) -> tuple[bool, str]:
        """Whether it was mounted, and if not the upload that the registry began in its place (or nothing)."""
        if repository == self.place.repository:
            return False, ""
        query = urlencode({"mount": descriptor.digest, "from": repository})
        try:
            response = self.session.send(
                self.place,
                "POST",
                self.place.url(f"blobs/uploads/?{query}"),
                push_scope(self.place.repository, [repository]),
            )
        except Unauthorized:  # perhaps only the other repository is closed to us
            return False, ""
        response.close()
        if response.status == 201:
            return True, ""
        return False, self.location(response) if response.status == 202 else ""

    def put_manifest(self, target: str, manifest: bytes, descriptor: Descriptor) -> None:
        """Store a manifest under `target`, a tag or its digest."""
        response = self.send(
            "PUT",
            self.place.url(f"manifests/{target}"),
            headers={"Content-Type": descriptor.media_type},
            body=manifest,
        )
        if response.status not in (201, 202):
            raise self.refused(response, f"manifest {target}")
        response.close()
        stored = response.header("Docker-Content-Digest")
        if stored and stored != descriptor.digest:
            raise DigestMismatch(
                f"{self.place.registry} stored another manifest for {self.ref}",
                got=stored,
                want=descriptor.digest,
            )

    def begin(self) -> str:
        """Begin an upload; where it goes on."""
        response = self.send("POST", self.place.url("blobs/uploads/"))
        if response.status != 202:
            raise self.refused(response)
        response.close()
        least = response.header("OCI-Chunk-Min-Length")
        if least.isascii() and least.isdigit():
            self.least_chunk = int(least)
        return self.location(response)

    def location(self, response: Response) -> str:
        """Where the upload goes on: relative or absolute, its query kept."""
        text = response.header("Location")
        target = urljoin(response.url, text)
        parts, own = urlsplit(target), urlsplit(self.place.base)
        if not text or parts.scheme not in ("http", "https"):
            raise BadAnswer(
                f"{response.method} {redact(response.url)}: the answer says not where to upload",
                method=response.method,
                url=response.url,
            )
        if parts.netloc == own.netloc:  # behind a proxy that ends TLS, registries think they speak plain http
            target = parts._replace(scheme=own.scheme).geturl()
        return target

    def cancel(self, location: str) -> None:
        """Best effort: registries sweep out uploads that nobody finished."""
        with contextlib.suppress(RegistryError):
            self.send("DELETE", location, once=True).close()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | Body = b"",
        once: bool = False,
    ) -> Response:
        """The answer, whatever its status but 401; `once` forbids retries."""
        if isinstance(body, Body):
            headers = {"Content-Type": _OCTETS, **(headers or {})}
        return self.session.send(self.place, method, url, self._scopes, headers=headers, body=body, once=once)

    def refused(self, response: Response, what: str = "") -> RegistryError:
        """The error for an answer that is not what was asked for."""
        return self.session.refused(self.place, response, what=what or f"push to {self.ref.familiar}")
