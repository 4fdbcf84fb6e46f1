"""Content into a registry: what it has is skipped, what another repository has is mounted, the rest uploaded.

The manifest goes last, so a name never points at half an image.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from minibuild_store.digest import Digest

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.reference import Reference
from minibuild.registry.destination import Destination
from minibuild.registry.errors import DigestMismatch, NotFound, RegistryError
from minibuild.registry.parallel import run_all, stop_if
from minibuild.registry.progress import Progress, silent
from minibuild.registry.session import Session
from minibuild.registry.upload import Opener, Uploader
from minibuild.values import dataclass

_FEW = 3  # blobs that are asked for one by one sooner than a manifest is read
_LOST = {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}


@dataclass(frozen=True, slots=True)
class PushBlob:
    """A blob of the image. `opener` gives its bytes from the start (seekable), each time it is called.

    Where it is None, the blob must be there already or be mounted from `mount_from`, a name in that registry.
    """

    descriptor: Descriptor
    opener: Opener | None = None
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
        self._to = Destination(session, ref)
        self._progress = progress or silent
        self._uploader = Uploader(self._to, self._progress)
        self._counts = Counter[str]()
        self._lock = threading.Lock()

    def push(
        self, manifest: bytes, media_type: str, blobs: Sequence[PushBlob], tags: Sequence[str]
    ) -> Pushed:
        """Everything, manifest last, under each of `tags` (or by digest alone where there are none)."""
        descriptor = Descriptor(media_type, Digest.of(manifest), len(manifest))
        wanted = self._to.ref.digest
        if wanted is not None and wanted != descriptor.digest:
            raise DigestMismatch(
                f"the manifest to push is not {self._to.ref}", got=descriptor.digest, want=wanted
            )
        there = {tag: self._to.digest_at(tag) for tag in tags}
        missing = [tag for tag in tags if there[tag] != descriptor.digest]
        if tags and not missing:
            return Pushed(descriptor, unchanged=True)
        if self._to.digest_at(descriptor.digest) == descriptor.digest:
            # a registry takes a manifest only with all its blobs, so they are there
            for tag in missing:
                self._to.put_manifest(tag, manifest, descriptor)
            return Pushed(descriptor, unchanged=not tags)
        unique = {blob.descriptor.digest: blob for blob in blobs}
        held = self._held(next((tag for tag in missing if there[tag]), ""), unique)
        for digest in held:
            self._done(unique[digest].descriptor, "present")
        self._push_all([blob for digest, blob in unique.items() if digest not in held])
        try:
            self._put_all(missing or [descriptor.digest], manifest, descriptor)
        except RegistryError as error:
            if not held or not _LOST & {*error.codes}:
                raise
            self._counts["present"] -= len(held)
            self._push_all([unique[digest] for digest in held])
            self._put_all(missing or [descriptor.digest], manifest, descriptor)
        counts = self._counts
        return Pushed(descriptor, counts["uploaded"], counts["mounted"], counts["present"])

    def check(self) -> None:
        """Ask for an upload and give it up: raises `Unauthorized` now rather than at the end of a build."""
        self._to.cancel(self._to.begin())

    def _held(self, tag: str, wanted: Mapping[Digest, PushBlob]) -> set[Digest]:
        """Which blobs the image under `tag` has too: the registry took that only with all of them."""
        if not tag or len(wanted) < _FEW:
            return set()
        try:
            found = self._to.manifest_at(tag)
        except RegistryError:
            return set()
        return {one.digest for one in found if not isinstance(one, ForeignDescriptor)} & wanted.keys()

    def _push_all(self, blobs: Sequence[PushBlob]) -> None:
        jobs = [partial(self._push_blob, blob) for blob in blobs]
        # the first one alone: a push that is not allowed fails once and early, not in every thread
        run_all(jobs[:1], 1)
        run_all(jobs[1:], self._to.session.options.transfers)

    def _put_all(self, targets: Sequence[str], manifest: bytes, descriptor: Descriptor) -> None:
        for target in targets:
            self._to.put_manifest(target, manifest, descriptor)

    def _push_blob(self, blob: PushBlob, stop: threading.Event) -> None:
        stop_if(stop)
        descriptor = blob.descriptor
        if self._to.has(descriptor):
            self._done(descriptor, "present")
            return
        location = ""
        if blob.mount_from is not None and blob.mount_from.registry == self._to.ref.registry:
            mounted, location = self._to.mount(descriptor, blob.mount_from.repository)
            if mounted:
                self._done(descriptor, "mounted")
                return
        if blob.opener is None:
            if isinstance(descriptor, ForeignDescriptor):  # its makers alone hand it out
                return
            if location:
                self._to.cancel(location)
            raise NotFound(
                f"{self._to.place.registry} has no blob {descriptor.digest} to use for {self._to.ref}, "
                "and its bytes are not here to upload",
                cure="Pull the base image's layers first, then push again.",
            )
        self._uploader.upload(blob.opener, descriptor, location, stop)
        self._done(descriptor, "uploaded")

    def _done(self, descriptor: Descriptor, how: str) -> None:
        with self._lock:
            self._counts[how] += 1
        self._progress(descriptor, descriptor.size)
