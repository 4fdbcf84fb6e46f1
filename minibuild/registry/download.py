"""One blob out of an HTTP server into the store: goes on after a cut, and believes the digest alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping

from minibuild_store.errors import BlobDamaged
from minibuild_store.partial import Partial

from minibuild.oci.descriptor import Descriptor
from minibuild.registry.errors import BadAnswer, DigestMismatch, Unreachable, redact
from minibuild.registry.message import Response
from minibuild.registry.parallel import stop_if
from minibuild.registry.progress import Progress
from minibuild.registry.retry import Backoff

Ask = Callable[[Mapping[str, str]], Response]
"""Sends the request with these headers; an answer that is none of 200, 206 and 416 it raises."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")


class Download:
    """The bytes of `descriptor` from `host`, as messages call it; `backoff` makes a new count of tries."""

    def __init__(
        self,
        descriptor: Descriptor,
        host: str,
        backoff: Callable[[], Backoff],
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._descriptor = descriptor
        self._host = host
        self._backoff = backoff
        self._progress = progress
        self._stop = stop

    def into(self, partial: Partial, ask: Ask) -> None:
        """Get the rest and commit; bytes of an earlier process that prove wrong are got once more.

        Raises `RegistryError`, and `DigestMismatch` for bytes that are not what was promised.
        """
        resumed = partial.size > 0
        url = self._rest(partial, ask)
        try:
            partial.commit(size=self._descriptor.size)
        except BlobDamaged as damage:
            if resumed:
                return self.into(partial, ask)
            raise self._lied(url, str(damage.got), str(damage.want)) from None

    def _rest(self, partial: Partial, ask: Ask) -> str:
        """Download what is missing; where from."""
        backoff, url = self._backoff(), ""
        while partial.size < self._descriptor.size:
            before = partial.size
            try:
                response = self._answer(partial, ask)
                url = response.url
                self._read(response, partial)
            except Unreachable as error:
                if partial.size > before:
                    backoff.progressed()
                if not error.temporary or not backoff.again():
                    raise
        return url

    def _answer(self, partial: Partial, ask: Ask) -> Response:
        """The answer with the bytes from ``partial.size`` on; the partial starts over if the server does."""
        response = ask({"Range": f"bytes={partial.size}-"} if partial.size else {})
        if response.status == 416 and partial.size:
            response.close()
            partial.restart()
            return self._answer(partial, ask)
        if response.status == 200:
            if partial.size:
                partial.restart()
            return response
        match = _CONTENT_RANGE.match(response.header("Content-Range"))
        if response.status != 206 or match is None or int(match[1]) != partial.size:
            response.close()
            raise BadAnswer(
                f"GET {redact(response.url)}: asked for bytes from {partial.size}, got "
                f"{response.header('Content-Range') or 'no Content-Range'}",
                method="GET",
                url=response.url,
                status=response.status,
            )
        return response

    def _read(self, response: Response, partial: Partial) -> None:
        size = self._descriptor.size
        expected = partial.size + response.size if response.size is not None else size
        if expected != size:
            response.close()
            raise self._lied(response.url, f"{expected} bytes", f"{size} bytes")
        for chunk in response.chunks():
            stop_if(self._stop)
            if partial.size + len(chunk) > size:
                response.close()
                partial.restart()
                raise self._lied(response.url, f"more than {size} bytes", f"{size} bytes")
            partial.write(chunk)
            self._progress(self._descriptor, partial.size)
        if partial.size < size:  # an answer without a length that just stopped
            raise Unreachable(
                f"cannot reach {self._host}: the connection was cut (GET {redact(response.url)})",
                cure="Try again, or use a --registry-mirror.",
                method="GET",
                url=response.url,
                temporary=True,
            )

    def _lied(self, url: str, got: str, want: str) -> DigestMismatch:
        return DigestMismatch(
            f"{self._host} sent wrong data for blob {self._descriptor.digest}", got=got, want=want, url=url
        )
