"""Content into a registry: what it has is skipped, what another repository has is mounted, the rest uploaded.

Uploads are the distribution specification's: POST then one PUT for ordinary sizes, PATCH in pieces for large
ones (a cut costs one piece, not the blob). The manifest goes last, so a name never points at half an image.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from minibuild_store.digest import Digest

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.mediatype import INDEXES, MANIFESTS
from minibuild.oci.reference import Reference
from minibuild.registry.challenge import push_scope
from minibuild.registry.errors import (
    BadAnswer,
    DigestMismatch,
    NotFound,
    RegistryError,
    Unauthorized,
    Unreachable,
    redact,
)
from minibuild.registry.mirrors import origin
from minibuild.registry.parallel import run_all, stop_if
from minibuild.registry.progress import Progress, silent
from minibuild.registry.session import Session
from minibuild.registry.transport import Response, Upload
from minibuild.values import dataclass

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)\Z")
_NO_PATCH = (400, 404, 405, 411, 413, 415, 501)
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class PushBlob:
    """A blob of the image. `opener` gives its bytes from the start (seekable), each time it is called.

    Where it is None, the blob must be there already or be mounted from `mount_from`, a name in that registry.
    """

    descriptor: Descriptor
    opener: Callable[[], IO[bytes]] | None = None
    mount_from: Reference | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did: counts of blobs by how they came to be there."""

    descriptor: Descriptor
    uploaded: int = 0
    mounted: int = 0
    present: int = 0
    unchanged: bool = False


class Pusher:
    """One push to one repository."""

    def __init__(self, session: Session, ref: Reference, progress: Progress | None) -> None:
        self._session = session
        self._ref = ref
        self._place = origin(ref, session.options)
        self._scopes = push_scope(self._place.repository)
        self._progress = progress or silent
        self._least_chunk = 0
        self._counts = Counter[str]()
        self._lock = threading.Lock()

    def push(
        self, manifest: bytes, media_type: str, blobs: Sequence[PushBlob], tags: Sequence[str]
    ) -> Pushed:
        """Everything, manifest last, under each of `tags` (or by digest alone where there are none)."""
        descriptor = Descriptor(media_type, Digest.of(manifest), len(manifest))
        wanted = self._ref.digest
        if wanted is not None and wanted != descriptor.digest:
            raise DigestMismatch(
                f"the manifest to push is not {self._ref}", got=descriptor.digest, want=wanted
            )
        missing = [tag for tag in tags if self._digest_at(tag) != descriptor.digest]
        if tags and not missing:
            return Pushed(descriptor, unchanged=True)
        if self._digest_at(descriptor.digest) == descriptor.digest:
            # a registry takes a manifest only with all its blobs, so they are there
            for tag in missing:
                self._put_manifest(tag, manifest, descriptor)
            return Pushed(descriptor, unchanged=not tags)
        unique = {blob.descriptor.digest: blob for blob in blobs}
        jobs = [_job(self._push_blob, blob) for blob in unique.values()]
        # the first one alone: a push that is not allowed fails once and early, not in every thread
        run_all(jobs[:1], 1)
        run_all(jobs[1:], self._session.options.transfers)
        for target in missing or [descriptor.digest]:
            self._put_manifest(target, manifest, descriptor)
        counts = self._counts
        return Pushed(descriptor, counts["uploaded"], counts["mounted"], counts["present"])

    def check(self) -> None:
        """Ask for an upload and give it up: raises `Unauthorized` now rather than at the end of a build."""
        response = self._send("POST", self._place.url("blobs/uploads/"))
        if response.status != 202:
            raise self._refused(response)
        location = self._location(response)
        response.close()
        self._cancel(location)

    def _push_blob(self, blob: PushBlob, stop: threading.Event) -> None:
        stop_if(stop)
        descriptor = blob.descriptor
        if self._has(descriptor):
            self._done(descriptor, "present")
            return
        location = ""
        if blob.mount_from is not None and blob.mount_from.registry == self._ref.registry:
            mounted, location = self._mount(descriptor, blob.mount_from.repository)
            if mounted:
                self._done(descriptor, "mounted")
                return
        if blob.opener is None:
            if isinstance(descriptor, ForeignDescriptor):  # its makers alone hand it out
                return
            if location:
                self._cancel(location)
            raise NotFound(
                f"{self._place.registry} has no blob {descriptor.digest} to use for {self._ref}, "
                "and its bytes are not here to upload",
                cure="Pull the base image's layers first, then push again.",
            )
        if descriptor.size > self._session.options.chunked_above:
            self._upload_chunked(blob.opener, descriptor, location, stop)
        else:
            self._upload_whole(blob.opener, descriptor, location, stop)
        self._done(descriptor, "uploaded")

    def _has(self, descriptor: Descriptor) -> bool:
        response = self._send("HEAD", self._place.url(f"blobs/{descriptor.digest}"))
        response.close()
        if response.status in (401, 403):
            raise self._refused(response)
        # what else it says, the upload will say better
        return response.status == 200 and response.size in (None, descriptor.size)

    def _mount(self, descriptor: Descriptor, repository: str) -> tuple[bool, str]:
        """Whether it was mounted, and if not the upload that the registry began in its place (or nothing)."""
        if repository == self._place.repository:
            return False, ""
        query = urlencode({"mount": descriptor.digest, "from": repository})
        try:
            response = self._session.send(
                self._place,
                "POST",
                self._place.url(f"blobs/uploads/?{query}"),
                push_scope(self._place.repository, [repository]),
            )
        except Unauthorized:  # perhaps only the other repository is closed to us
            return False, ""
        response.close()
        if response.status == 201:
            return True, ""
        return False, self._location(response) if response.status == 202 else ""

    def _begin(self) -> str:
        response = self._send("POST", self._place.url("blobs/uploads/"))
        if response.status != 202:
            raise self._refused(response)
        response.close()
        least = response.header("OCI-Chunk-Min-Length")
        if least.isascii() and least.isdigit():
            self._least_chunk = int(least)
        return self._location(response)

    def _upload_whole(
        self, opener: Callable[[], IO[bytes]], descriptor: Descriptor, location: str, stop: threading.Event
    ) -> None:
        """One PUT of all bytes; a cut begins anew, with a new upload."""

        def watch(done: int) -> None:
            stop_if(stop)
            self._progress(descriptor, done)

        backoff = self._session.transport.backoff()
        while True:
            location = location or self._begin()
            body = Upload(opener, descriptor.size, watch)
            try:
                response = self._send("PUT", _with_digest(location, descriptor.digest), body=body, once=True)
            except Unreachable as error:
                failure: RegistryError = error
                again = error.temporary and backoff.again()
            else:
                if response.status == 201:
                    response.close()
                    return
                failure = self._refused(response)
                # an upload that was lost with its server is worth a new one
                lost = response.status == 404
                again = (failure.temporary or lost) and backoff.again(response.header("Retry-After"))
            if failure.temporary and self._has(descriptor):  # perhaps only the answer got lost
                return
            if not again:
                raise failure
            location = ""

    def _upload_chunked(
        self, opener: Callable[[], IO[bytes]], descriptor: Descriptor, location: str, stop: threading.Event
    ) -> None:
        """PATCH piece by piece; after a cut the registry is asked how far it got."""
        backoff = self._session.transport.backoff()
        location = location or self._begin()
        offset = 0
        while offset < descriptor.size:
            piece = self._piece(opener, descriptor, offset, stop)
            try:
                response = self._patch(location, piece, offset)
            except Unreachable as error:
                if not error.temporary or not backoff.again():
                    raise
                location, offset = self._where(location)
                continue
            if response.status in (202, 204):
                response.close()
                location = self._location(response)
                offset += piece.size
                backoff.progressed()
                continue
            failure = self._refused(response)
            if (
                offset == 0 and response.status in _NO_PATCH
            ):  # registries exist that know the single PUT alone
                return self._upload_whole(opener, descriptor, "", stop)
            if not failure.temporary and response.status != 416:
                raise failure
            if not backoff.again(response.header("Retry-After"), response.header("Date")):
                raise failure
            location, offset = self._where(location)
        self._finish(location, descriptor)

    def _piece(
        self, opener: Callable[[], IO[bytes]], descriptor: Descriptor, offset: int, stop: threading.Event
    ) -> Upload:
        def opened() -> IO[bytes]:
            source = opener()
            source.seek(offset)
            return source

        def watch(done: int) -> None:
            stop_if(stop)
            self._progress(descriptor, offset + done)

        size = max(self._session.options.chunk, self._least_chunk)
        return Upload(opened, min(size, descriptor.size - offset), watch)

    def _patch(self, location: str, piece: Upload, offset: int) -> Response:
        headers = {"Content-Range": f"{offset}-{offset + piece.size - 1}"}
        return self._send("PATCH", location, headers=headers, body=piece, once=True)

    def _where(self, location: str) -> tuple[str, int]:
        """Where to go on, and from which byte; a new upload where the old one is lost."""
        response = self._send("GET", location)
        response.close()
        match = _RANGE.match(response.header("Range"))
        # "0-0" is said of no bytes as of one; one byte is not worth telling them apart
        if response.status != 204 or match is None or match[1] == "0":
            return self._begin(), 0
        return self._location(response) if response.header("Location") else location, int(match[1]) + 1

    def _finish(self, location: str, descriptor: Descriptor) -> None:
        backoff = self._session.transport.backoff()
        while True:
            try:
                response = self._send("PUT", _with_digest(location, descriptor.digest), once=True)
            except Unreachable as error:
                failure: RegistryError = error
            else:
                if response.status == 201:
                    response.close()
                    return
                failure = self._refused(response)
            if failure.temporary and self._has(descriptor):
                return
            if not failure.temporary or not backoff.again():
                raise failure

    def _put_manifest(self, target: str, manifest: bytes, descriptor: Descriptor) -> None:
        response = self._send(
            "PUT",
            self._place.url(f"manifests/{target}"),
            headers={"Content-Type": descriptor.media_type},
            body=manifest,
        )
        if response.status not in (201, 202):
            raise self._refused(response, f"manifest {target}")
        response.close()
        stored = response.header("Docker-Content-Digest")
        if stored and stored != descriptor.digest:
            raise DigestMismatch(
                f"{self._place.registry} stored another manifest for {self._ref}",
                got=stored,
                want=descriptor.digest,
            )

    def _digest_at(self, target: str) -> str:
        """What `target` names now, as far as a HEAD tells; empty if nothing."""
        headers = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        response = self._send("HEAD", self._place.url(f"manifests/{target}"), headers=headers)
        response.close()
        return response.header("Docker-Content-Digest") if response.status == 200 else ""

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | Upload = b"",
        once: bool = False,
    ) -> Response:
        if isinstance(body, Upload):
            headers = {"Content-Type": _OCTETS, **(headers or {})}
        return self._session.send(
            self._place, method, url, self._scopes, headers=headers, body=body, once=once
        )

    def _location(self, response: Response) -> str:
        """Where the upload goes on: relative or absolute, its query kept."""
        text = response.header("Location")
        target = urljoin(response.url, text)
        parts, own = urlsplit(target), urlsplit(self._place.base)
        if not text or parts.scheme not in ("http", "https"):
            raise BadAnswer(
                f"{response.method} {redact(response.url)}: the answer says not where to upload",
                method=response.method,
                url=response.url,
            )
        if parts.netloc == own.netloc:  # behind a proxy that ends TLS, registries think they speak plain http
            target = parts._replace(scheme=own.scheme).geturl()
        return target

    def _cancel(self, location: str) -> None:
        """Best effort: registries sweep out uploads that nobody finished."""
        with contextlib.suppress(RegistryError):
            self._send("DELETE", location, once=True).close()

    def _refused(self, response: Response, what: str = "") -> RegistryError:
        return self._session.refused(self._place, response, what=what or f"push to {self._ref.familiar}")

    def _done(self, descriptor: Descriptor, how: str) -> None:
        with self._lock:
            self._counts[how] += 1
        self._progress(descriptor, descriptor.size)


def _job(
    push: Callable[[PushBlob, threading.Event], None], blob: PushBlob
) -> Callable[[threading.Event], None]:
    return lambda stop: push(blob, stop)


def _with_digest(location: str, digest: Digest) -> str:
    return f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
