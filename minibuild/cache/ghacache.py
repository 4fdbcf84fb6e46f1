"""A shared cache in GitHub Actions' cache service: ``type=gha``.

Nothing can be overwritten there, and anything may be gone. Layers are entries named by their digests. Records
are a new entry each time, of which the newest is read: one for each ref, as what a branch has written is not
seen by others. A job reads those of every ref that its token names, its own first.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
import time
from collections.abc import Sequence

from minibuild_store.blobs import Blobs

from minibuild.cache.backend import Backend, Progress, Saved, Services, Upload, with_signature
from minibuild.cache.document import CacheDocument, read_document
from minibuild.cache.ghaentries import Entries
from minibuild.cache.ghaservice import Content, service_of
from minibuild.cache.ghatoken import Place, Ref, place_of, refs_of
from minibuild.cache.ghawire import CacheServiceError, Wire
from minibuild.cache.spec import CacheSpec
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.parallel import Job, run_all
from minibuild.registry.transport import Transport
from minibuild.values import replace

_ATTEMPTS = 3  # of each request, the waits that the service asks for between them
_PARALLEL = 4


def open_cache(spec: CacheSpec, services: Services) -> GhaCache:
    with services.registry() as registry:
        options = registry.options
    place = place_of(spec.options, options.environment or os.environ)
    transport = Transport(replace(options, attempts=_ATTEMPTS))
    return GhaCache(spec, place, transport)


class GhaCache:
    """The cache called ``scope=`` of all refs that the token names; written for the one that it may write."""

    reference = None

    def __init__(self, spec: CacheSpec, place: Place, transport: Transport) -> None:
        self._transport = transport
        self._wire = Wire(transport, place)
        # without a claim that says otherwise (servers of others) there is one ref, which may be written
        refs = refs_of(place.token) or (Ref("", True),)
        self._entries = Entries(self._wire, service_of(place, self._wire), place, refs)
        signed = bool(spec.sign_key or spec.verify_key)
        self._refs: list[tuple[Ref, Backend]] = [
            (ref, with_signature(RefCache(self._entries, _records(place.scope, ref, signed)), spec))
            for ref in refs
        ]

    def load(self) -> CacheDocument | None:
        found: dict[int, CacheDocument] = {}

        def load(number: int, part: Backend) -> Job:
            def job(_: threading.Event) -> None:
                document = part.load()
                if document is not None:
                    found[number] = document

            return job

        run_all([load(number, part) for number, (_, part) in enumerate(self._refs)], _PARALLEL)
        return _merged([found[number] for number in sorted(found)])

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        self._entries.fetch(descriptor, blobs, progress)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        part = next((part for ref, part in self._refs if ref.writable), None)
        if part is None:
            raise CacheServiceError(
                "the token may only read, as that of a pull request from a fork",
                cure="Leave --cache-to out of such jobs.",
            )
        return part.save(document, uploads, progress)

    def close(self) -> None:
        self._transport.close()


class RefCache:
    """The records of one ref: the newest entry whose key begins with `records`."""

    reference = None

    def __init__(self, entries: Entries, records: str) -> None:
        self._entries = entries
        self._records = records

    def load(self) -> CacheDocument | None:
        data = self._entries.read(self._records)
        return None if data is None else read_document(data)

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        self._entries.fetch(descriptor, blobs, progress)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        saved = self._entries.add(uploads, progress)
        data = document.dump()
        key = f"{self._records}{time.time_ns():x}-{secrets.token_hex(4)}"
        self._entries.write(key, Content(lambda: io.BytesIO(data), len(data)), threading.Event())
        return saved

    def close(self) -> None:
        pass


def _records(scope: str, ref: Ref, signed: bool) -> str:
    """What the keys of a ref's records begin with; who signs and who does not are kept apart."""
    name = hashlib.sha256(ref.name.encode()).hexdigest()[:8]
    return f"minibuild-index-{scope}-1-{name}{'-sig' if signed else ''}#"


def _merged(documents: Sequence[CacheDocument]) -> CacheDocument | None:
    """One document of several: where two say something of the same thing, the first one counts."""
    if len(documents) <= 1:
        return documents[0] if documents else None
    last_first = documents[::-1]
    return CacheDocument(
        tuple({step.key: step for one in last_first for step in one.steps}.values()),
        {name: note for one in last_first for name, note in one.notes.items()},
        tuple({mount.identity: mount for one in last_first for mount in one.mounts}.values()),
        next((one.build for one in documents if one.build), ""),
        bare=tuple(stage for one in last_first for stage in one.bare),
    )
