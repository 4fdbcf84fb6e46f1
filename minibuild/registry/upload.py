"""The bytes of a blob into a registry: one PUT for ordinary sizes, PATCH in pieces for large ones.

A cut costs one piece, not the blob (distribution specification, "Pushing blobs").
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import IO
from urllib.parse import urlencode, urlsplit

from minibuild_store.digest import Digest

from minibuild.oci.descriptor import Descriptor
from minibuild.registry.destination import Destination
from minibuild.registry.errors import RegistryError, Unreachable
from minibuild.registry.message import Body, Response
from minibuild.registry.parallel import stop_if
from minibuild.registry.progress import Progress

Opener = Callable[[], IO[bytes]]
"""Gives a blob's bytes from the start (seekable), each time it is called."""

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)\Z")
_NO_PATCH = (400, 404, 405, 411, 413, 415, 501)


class Uploader:
    """Uploads to one repository, several at once; `progress` hears of each."""

    def __init__(self, destination: Destination, progress: Progress) -> None:
        self._to = destination
        self._progress = progress

    def upload(self, opener: Opener, descriptor: Descriptor, location: str, stop: threading.Event) -> None:
        """Send a blob to the upload at `location`, or to a new one where that is ""."""
        if descriptor.size > self._to.session.options.chunked_above:
            self._chunked(opener, descriptor, location, stop)
        else:
            self._whole(opener, descriptor, location, stop)

    def _whole(self, opener: Opener, descriptor: Descriptor, location: str, stop: threading.Event) -> None:
        """One PUT of all bytes; a cut begins anew, with a new upload."""

        def watch(done: int) -> None:
            stop_if(stop)
            self._progress(descriptor, done)

        backoff = self._to.session.transport.backoff()
        while True:
            location = location or self._to.begin()
            body = Body(opener, descriptor.size, watch)
            try:
                response = self._to.send(
                    "PUT", _with_digest(location, descriptor.digest), body=body, once=True
                )
            except Unreachable as error:
                failure: RegistryError = error
                again = error.temporary and backoff.again()
            else:
                if response.status == 201:
                    response.close()
                    return
                failure = self._to.refused(response)
                # an upload that was lost with its server is worth a new one
                lost = response.status == 404
                again = (failure.temporary or lost) and backoff.again(response.header("Retry-After"))
            if failure.temporary and self._to.has(descriptor):  # perhaps only the answer got lost
                return
            if not again:
                raise failure
            location = ""

    def _chunked(self, opener: Opener, descriptor: Descriptor, location: str, stop: threading.Event) -> None:
        """PATCH piece by piece; after a cut the registry is asked how far it got."""
        backoff = self._to.session.transport.backoff()
        location = location or self._to.begin()
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
                location = self._to.location(response)
                offset += piece.size
                backoff.progressed()
                continue
            failure = self._to.refused(response)
            # registries exist that know the single PUT alone
            if offset == 0 and response.status in _NO_PATCH:
                return self._whole(opener, descriptor, "", stop)
            if not failure.temporary and response.status != 416:
                raise failure
            if not backoff.again(response.header("Retry-After"), response.header("Date")):
                raise failure
            location, offset = self._where(location)
        self._finish(location, descriptor)

    def _piece(self, opener: Opener, descriptor: Descriptor, offset: int, stop: threading.Event) -> Body:
        def opened() -> IO[bytes]:
            source = opener()
            source.seek(offset)
            return source

        def watch(done: int) -> None:
            stop_if(stop)
            self._progress(descriptor, offset + done)

        size = max(self._to.session.options.chunk, self._to.least_chunk)
        return Body(opened, min(size, descriptor.size - offset), watch)

    def _patch(self, location: str, piece: Body, offset: int) -> Response:
        headers = {"Content-Range": f"{offset}-{offset + piece.size - 1}"}
        return self._to.send("PATCH", location, headers=headers, body=piece, once=True)

    def _where(self, location: str) -> tuple[str, int]:
        """Where to go on, and from which byte; a new upload where the old one is lost."""
        response = self._to.send("GET", location)
        response.close()
        match = _RANGE.match(response.header("Range"))
        # "0-0" is said of no bytes as of one; one byte is not worth telling them apart
        if response.status != 204 or match is None or match[1] == "0":
            return self._to.begin(), 0
        return self._to.location(response) if response.header("Location") else location, int(match[1]) + 1

    def _finish(self, location: str, descriptor: Descriptor) -> None:
        backoff = self._to.session.transport.backoff()
        while True:
            try:
                response = self._to.send("PUT", _with_digest(location, descriptor.digest), once=True)
            except Unreachable as error:
                failure: RegistryError = error
            else:
                if response.status == 201:
                    response.close()
                    return
                failure = self._to.refused(response)
            if failure.temporary and self._to.has(descriptor):
                return
            if not failure.temporary or not backoff.again():
                raise failure


def _with_digest(location: str, digest: Digest) -> str:
    return f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
