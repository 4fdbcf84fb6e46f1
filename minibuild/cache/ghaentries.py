"""What GitHub Actions' cache service holds for us: layers by their digests, and records.

Nothing can be overwritten there, and anything may be gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Progress, Saved, Upload
from minibuild.cache.document import InvalidCache
from minibuild.cache.ghaservice import Content, Service
from minibuild.cache.ghatoken import Place, Ref
from minibuild.cache.ghawire import CacheServiceError, Wire
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.download import Download
from minibuild.registry.errors import Unreachable
from minibuild.registry.message import Response
from minibuild.registry.parallel import Job, run_all, stop_if

_LAYER = "minibuild-blob-1-"
_PARALLEL = 4
_MOST = 64 << 20


class Entries:
    """What the service holds, by key; thread-safe."""

    def __init__(self, wire: Wire, service: Service, place: Place, refs: Sequence[Ref]) -> None:
        self._wire = wire
        self._service = service
        self._place = place
        self._refs = refs

    def read(self, prefix: str) -> bytes | None:
        """The newest entry whose key begins so; None where there is none."""
        source = _Source(self._wire, self._service, prefix, "read the records")
        if not source.found:
            return None
        backoff = self._wire.backoff()
        with self._wire.plain("read the records"):
            while True:
                try:
                    return source.ask({}).read(_MOST)
                except Unreachable as error:
                    if not error.temporary or not backoff.again():
                        raise

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        """Bring one layer into `blobs`; what an earlier try got is not fetched again."""
        digest, size = descriptor.digest, descriptor.size
        what = f"fetch layer {digest.short}"
        with blobs.partial(digest) as partial:
            if not blobs.has(digest, size):
                if partial.size > size:
                    partial.restart()
                source = _Source(self._wire, self._service, _key(digest), what)
                if not source.found:
                    raise InvalidCache(
                        "it is no longer there: the service drops what is old or over its limit"
                    )
                download = Download(descriptor, source.host, self._wire.backoff, progress, threading.Event())
                with self._wire.plain(what):
                    download.into(partial, source.ask)
        progress(descriptor, size)

    def write(self, key: str, content: Content, stop: threading.Event) -> bool:
        """Add an entry; False where the key is taken."""
        stop_if(stop)
        handle = self._service.reserve(key)
        if handle is None:
            return False
        self._service.send(handle, content, stop)
        self._service.commit(key, handle, content.size)
        return True

    def add(self, uploads: Sequence[Upload], progress: Progress) -> Saved:
        """Add the layers that are missing."""
        listed = self._listed()
        missing: list[Upload] = []
        taken: list[Upload] = []

        def look(upload: Upload) -> Job:
            def job(stop: threading.Event) -> None:
                stop_if(stop)
                if not self._has(upload, listed):
                    missing.append(upload)

            return job

        def send(upload: Upload) -> Job:
            def job(stop: threading.Event) -> None:
                if not self._send(upload, "", stop, progress):
                    taken.append(upload)

            return job

        run_all([look(upload) for upload in uploads], _PARALLEL)
        run_all([send(upload) for upload in missing], _PARALLEL)
        late = [upload for upload in taken if self._has(upload, None)]
        # reserved, but not there: whoever did so is slow or has died, and nobody can undo that
        for upload in taken:
            if upload not in late and not self._send(upload, _today(), threading.Event(), progress):
                late.append(upload)
        return Saved(len(missing) - len(late), len(uploads) - len(missing) + len(late))

    def _listed(self) -> set[str] | None:
        if not self._place.ghtoken or not self._place.repository:
            return None
        from minibuild.cache.ghakeys import listed_keys

        try:
            keys = listed_keys(self._wire, self._place, self._refs, _LAYER)
        except CacheServiceError:  # it only spares requests
            return None
        return {key.partition("#")[0] for key in keys}

    def _has(self, upload: Upload, listed: set[str] | None) -> bool:
        key = _key(upload.descriptor.digest)
        return self._service.find(key) is not None if listed is None else key in listed

    def _send(self, upload: Upload, more: str, stop: threading.Event, progress: Progress) -> bool:
        content = Content(upload.opener, upload.descriptor.size)
        if not self.write(_key(upload.descriptor.digest) + more, content, stop):
            return False
        progress(upload.descriptor, upload.descriptor.size)
        return True


class _Source:
    """Where the bytes of one entry are: an address that expires, and is then asked for anew."""

    def __init__(self, wire: Wire, service: Service, prefix: str, what: str) -> None:
        self._wire = wire
        self._service = service
        self._prefix = prefix
        self._what = what
        self._entry = service.find(prefix)

    @property
    def found(self) -> bool:
        return self._entry is not None

    @property
    def host(self) -> str:
        return "" if self._entry is None else urlsplit(self._entry.url).netloc

    def ask(self, headers: Mapping[str, str]) -> Response:
        """The answer, of status 200, 206 or (to a range) 416."""
        response = self._get(headers)
        if response.status in (401, 403):
            response.close()
            self._entry = self._service.find(self._prefix)
            response = self._get(headers)
        if response.status not in (200, 206) and not (response.status == 416 and headers):
            raise self._wire.refused(self._what, response)
        return response

    def _get(self, headers: Mapping[str, str]) -> Response:
        if self._entry is None:
            raise InvalidCache("it is no longer there")
        return self._wire.get(self._what, self._entry.url, headers)


def _key(digest: Digest) -> str:
    return f"{_LAYER}{digest}"


def _today() -> str:
    return time.strftime("#%Y%m%d", time.gmtime())
