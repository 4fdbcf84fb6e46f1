"""Blobs out of a registry into the store: resumed after a cut, verified, each got but once."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from minibuild_store.blobs import Blobs
from minibuild_store.errors import BlobDamaged
from minibuild_store.partial import Partial

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.reference import Reference
from minibuild.registry.challenge import pull_scope
from minibuild.registry.errors import BadAnswer, DigestMismatch, NotFound, RegistryError, Unreachable, redact
from minibuild.registry.mirrors import Place
from minibuild.registry.parallel import run_all, stop_if
from minibuild.registry.places import first_of
from minibuild.registry.progress import Progress, silent
from minibuild.registry.session import Session
from minibuild.registry.transport import Response

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")


def fetch_blobs(
    session: Session,
    ref: Reference,
    descriptors: Sequence[Descriptor],
    blobs: Blobs,
    progress: Progress | None = None,
) -> None:
    """Every blob of `descriptors` that the store has not, several at once; raises as `fetch_blob`."""
    unique = {one.digest: one for one in descriptors}
    missing = [one for one in unique.values() if not blobs.has(one.digest, one.size)]
    pullers = [_Puller(session, ref, one, blobs, progress or silent) for one in missing]
    run_all([puller.run for puller in pullers], session.options.transfers)


class _Puller:
    """The download of one blob, from whichever place has it."""

    def __init__(
        self, session: Session, ref: Reference, descriptor: Descriptor, blobs: Blobs, progress: Progress
    ) -> None:
        self._session = session
        self._ref = ref
        self._descriptor = descriptor
        self._blobs = blobs
        self._progress = progress
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        self._stop = stop
        stop_if(stop)
        digest, size = self._descriptor.digest, self._descriptor.size
        with self._blobs.partial(digest) as partial:
            if not self._blobs.has(digest, size):  # whoever held the lock before us may have got it
                if partial.size > size:
                    partial.restart()
                first_of(self._session, self._ref, lambda place: self._from_place(place, partial))
        self._progress(self._descriptor, size)

    def _from_place(self, place: Place, partial: Partial) -> None:
        try:
            self._verified(place, place.url(f"blobs/{self._descriptor.digest}"), partial)
        except NotFound:
            if not isinstance(self._descriptor, ForeignDescriptor):
                raise
            self._from_urls(place, self._descriptor.urls, partial)

    def _from_urls(self, place: Place, urls: Sequence[str], partial: Partial) -> None:
        """A foreign layer: its makers' own servers, in order, without our login."""
        failure: RegistryError | None = None
        for url in urls:
            try:
                return self._verified(place, url, partial)
            except RegistryError as error:
                failure = error
        raise failure or NotFound(f"layer {self._descriptor.digest} names no address to get it from")

    def _verified(self, place: Place, url: str, partial: Partial) -> None:
        """Get the rest and commit; bytes of an earlier process that prove wrong are got once more."""
        resumed = partial.size > 0
        self._download(place, url, partial)
        try:
            partial.commit(size=self._descriptor.size)
        except BlobDamaged as damage:
            if resumed:
                return self._verified(place, url, partial)
            raise self._lied(place, url, str(damage.got), str(damage.want)) from None

    def _download(self, place: Place, url: str, partial: Partial) -> None:
        size = self._descriptor.size
        backoff = self._session.transport.backoff()
        while partial.size < size:
            before = partial.size
            try:
                self._read(self._request(place, url, partial), place, partial)
            except Unreachable as error:
                if partial.size > before:
                    backoff.progressed()
                if not error.temporary or not backoff.again():
                    raise

    def _request(self, place: Place, url: str, partial: Partial) -> Response:
        """The answer with the bytes from ``partial.size`` on; the partial starts over if the server does."""
        headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
        response = self._session.send(place, "GET", url, pull_scope(place.repository), headers=headers)
        if response.status == 416 and partial.size:
            response.close()
            partial.restart()
            return self._request(place, url, partial)
        if response.status == 200:
            if partial.size:
                partial.restart()
        elif response.status == 206 and partial.size:
            match = _CONTENT_RANGE.match(response.header("Content-Range"))
            if match is None or int(match[1]) != partial.size:
                response.close()
                raise BadAnswer(
                    f"GET {redact(url)}: asked for bytes from {partial.size}, got "
                    f"{response.header('Content-Range') or 'no Content-Range'}",
                    method="GET",
                    url=url,
                    status=206,
                )
        else:
            raise self._session.refused(place, response, what=f"blob {self._descriptor.digest}")
        return response

    def _read(self, response: Response, place: Place, partial: Partial) -> None:
        size = self._descriptor.size
        expected = partial.size + response.size if response.size is not None else size
        if expected != size:
            response.close()
            raise self._lied(place, response.url, f"{expected} bytes", f"{size} bytes")
        for chunk in response.chunks():
            stop_if(self._stop)
            if partial.size + len(chunk) > size:
                response.close()
                partial.restart()
                raise self._lied(place, response.url, f"more than {size} bytes", f"{size} bytes")
            partial.write(chunk)
            self._progress(self._descriptor, partial.size)
        if partial.size < size:  # an answer without a length that just stopped
            raise Unreachable(
                f"cannot reach {place.registry}: the connection was cut (GET {redact(response.url)})",
                cure="Try again, or use a --registry-mirror.",
                method="GET",
                url=response.url,
                temporary=True,
            )

    def _lied(self, place: Place, url: str, got: str, want: str) -> DigestMismatch:
        return DigestMismatch(
            f"{place.registry} sent wrong data for blob {self._descriptor.digest}",
            got=got,
            want=want,
            url=url,
        )
