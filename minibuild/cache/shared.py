"""The shared caches of one build: records are read while the build begins, layers come when they are needed.

Nothing that a cache does can fail a build: what is down, slow, truncated or wrong is said once and left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from minibuild_store import stopping
from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError

from minibuild.cache.backend import Backend, Progress, Services, backend_for
from minibuild.cache.document import CacheDocument, CachedStep
from minibuild.cache.mounts import CachedMount
from minibuild.cache.spec import CacheSpec
from minibuild.errors import MinibuildError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.threads import start
from minibuild.values import NamedTuple


class SharedLayer:
    """A layer that a shared cache told of (`engine.layerblobs.RemoteLayer`); `held` where it holds it too."""

    def __init__(self, source: Source, descriptor: Descriptor, *, held: bool = True) -> None:
        self._source = source
        self._descriptor = descriptor
        self.held = held

    @property
    def reference(self) -> Reference | None:
        return self._source.reference if self.held else None

    def fetch(self, blobs: Blobs, progress: Progress) -> None:
        self._source.fetch(self._descriptor, blobs, progress)

    def forget(self, why: str) -> None:
        if self.held:
            self._source.distrust(self._descriptor.digest, why)
        else:
            self._source.forget(self._descriptor.digest)


class SharedHit(NamedTuple):
    """A step that a shared cache has; `origin` names the cache for people."""

    step: CachedStep
    layer: SharedLayer
    origin: str


class SharedMount(NamedTuple):
    """A cache mount that a shared cache has; `origin` names the cache for people."""

    mount: CachedMount
    layer: SharedLayer
    origin: str


class Source:
    """One ``--cache-from``, read on a thread of its own."""

    def __init__(self, spec: CacheSpec, services: Services, notice: Callable[[str, str], None]) -> None:
        self._spec = spec
        self._services = services
        self._notice = notice
        self._steps: Mapping[str, CachedStep] = {}
        self.notes: Mapping[str, str] = {}
        self.build = ""
        self._mounts: Mapping[str, CachedMount] = {}
        self._bare: Mapping[Digest, Collection[int]] = {}
        self._distrusted: set[Digest] = set()
        self._backend: Backend | None = None
        self._given_up = False
        self._deadline = time.monotonic() + spec.timeout
        self._thread = threading.Thread(target=self._load, daemon=True)
        start(self._thread)

    @property
    def reference(self) -> Reference | None:
        return None if self._backend is None else self._backend.reference

    def _load(self) -> None:
        try:
            backend = backend_for(self._spec, self._services)
            document = backend.load()
        except Exception as error:  # a backend may be anybody's
            if not self._given_up:
                self._warn(f"cache {self._spec.shown} is not used: {_said(error)}")
            return
        if document is None and not self._given_up:  # as in a first build, or where its name is misspelled
            self._notice("note", f"cache {self._spec.shown} is not there yet")
        elif document is not None and not self._given_up:
            self._backend = backend
            self.notes = document.notes
            self.build = document.build
            if self._spec.mounts:
                self._mounts = {mount.identity.folder: mount for mount in document.mounts}
            self._bare = _missing_layers(document)
            self._steps = {step.key: step for stage in (*document.bare, document.steps) for step in stage}

    def _warn(self, text: str) -> None:
        self._notice("warning", text)

    def wait(self) -> None:
        """Wait until the records are here, or until the cache's time is up."""
        while self._thread.is_alive() and (left := self._deadline - time.monotonic()) > 0:
            stopping.check()
            self._thread.join(min(left, stopping.POLL))
        if self._thread.is_alive() and not self._given_up:
            self._given_up = True
            self._warn(f"cache {self._spec.shown} is not used: no answer within {self._spec.timeout:.0f}s")

    def find(self, key: str) -> SharedHit | None:
        self.wait()
        step = self._steps.get(key)
        if step is None or step.layer.descriptor.digest in self._distrusted:
            return None
        held = step.layer.descriptor.digest not in self._bare
        return SharedHit(step, SharedLayer(self, step.layer.descriptor, held=held), self._spec.shown)

    def withholds(self, key: str) -> bool:
        """Whether `key` is known and its layer was needed, which the cache does not hold."""
        step = self._steps.get(key)
        return step is not None and step.layer.descriptor.digest in self._bare and self.find(key) is None

    def mount(self, folder: str) -> SharedMount | None:
        self.wait()
        mount = self._mounts.get(folder)
        if mount is None or mount.layer.descriptor.digest in self._distrusted:
            return None
        return SharedMount(mount, SharedLayer(self, mount.layer.descriptor), self._spec.shown)

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        assert self._backend is not None
        try:
            self._backend.fetch(descriptor, blobs, progress)
        except (MinibuildError, StoreError):
            stopping.check()
            raise
        except Exception as error:
            stopping.check()
            raise MinibuildError(_said(error)) from None

    def distrust(self, digest: Digest, why: str) -> None:
        """Hand out `digest` no more, and say why."""
        if digest not in self._distrusted:
            self._distrusted.add(digest)
            self._warn(f"cache {self._spec.shown}: layer {digest.short} is not used: {why}")

    def forget(self, digest: Digest) -> None:
        """Hand out no step of a stage whose layers are not here: what needs one needs those below.

        One that stages share, as of their WORKDIR, does not tell which is needed: the others are left alone.
        """
        stages = self._bare[digest]
        self._distrusted.update(one for one, theirs in self._bare.items() if theirs == stages)

    def close(self) -> None:
        self._given_up = True
        if self._backend is not None:
            self._backend.close()


class SharedCaches:
    """All ``--cache-from`` of a build, asked in the order given."""

    def __init__(
        self, sources: Sequence[tuple[CacheSpec, Services]], notice: Callable[[str, str], None]
    ) -> None:
        """`notice` is told a kind, note or warning, and what there is to say (`events.Notice`)."""
        self._sources = [Source(spec, services, notice) for spec, services in sources]

    def find(self, key: str) -> SharedHit | None:
        """What the first cache that holds the layer has; where none does, the first that knows the key."""
        bare = None
        for source in self._sources:
            hit = source.find(key)
            if hit is not None and hit.layer.held:
                return hit
            bare = bare or hit
        return bare

    def withholds(self, key: str) -> bool:
        """Whether a cache knows `key`, and none holds its layer, which is needed."""
        return self.find(key) is None and any(source.withholds(key) for source in self._sources)

    def mount(self, folder: str) -> SharedMount | None:
        """The files of a cache mount, by the name of its folder (`MountIdentity.folder`)."""
        return next((hit for source in self._sources if (hit := source.mount(folder)) is not None), None)

    def builds(self) -> list[str]:
        """What the caches say of the builds that wrote them (`cache.lastbuild`)."""
        for source in self._sources:
            source.wait()
        return [source.build for source in self._sources if source.build]

    def note(self, name: str) -> str | None:
        """The content digest of a selection, where a cache knows it: spares reading the files."""
        for source in self._sources:
            source.wait()
        return next((source.notes[name] for source in self._sources if name in source.notes), None)

    def close(self) -> None:
        for source in self._sources:
            source.close()


def _missing_layers(document: CacheDocument) -> Mapping[Digest, Collection[int]]:
    """The layers that the cache does not hold, each with the numbers of the stages that it is in."""
    held = {descriptor.digest for descriptor in document.layers()}
    found: dict[Digest, set[int]] = {}
    for number, stage in enumerate(document.bare):
        for digest in {step.layer.descriptor.digest for step in stage} - held:
            found.setdefault(digest, set()).add(number)
    return found


def _said(error: BaseException) -> str:
    text = error.message if isinstance(error, MinibuildError) else str(error)
    return text.strip().split("\n")[0] or type(error).__name__
