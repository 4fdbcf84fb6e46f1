"""Blobs out of a registry into the store: resumed after a cut, verified, each got but once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from minibuild_store.blobs import Blobs
from minibuild_store.partial import Partial

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.reference import Reference
from minibuild.registry.challenge import pull_scope
from minibuild.registry.download import Download
from minibuild.registry.errors import NotFound, RegistryError
from minibuild.registry.message import Response
from minibuild.registry.mirrors import Place
from minibuild.registry.parallel import run_all, stop_if
from minibuild.registry.places import first_of
from minibuild.registry.progress import Progress, silent
from minibuild.registry.session import Session


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
        backoff = self._session.transport.backoff
        download = Download(self._descriptor, place.registry, backoff, self._progress, self._stop)
        download.into(partial, lambda headers: self._ask(place, url, headers))

    def _ask(self, place: Place, url: str, headers: Mapping[str, str]) -> Response:
        response = self._session.send(place, "GET", url, pull_scope(place.repository), headers=headers)
        if response.status not in (200, 206, 416) or (response.status == 416 and not headers):
            raise self._session.refused(place, response, what=f"blob {self._descriptor.digest}")
        return response
