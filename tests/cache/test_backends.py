"""What every shared cache keeps to, over all of them: registry, folder, object store, somebody's own."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

import pytest
from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError
from minibuild_store.store import Store

from minibuild.cache.backend import Backend, Progress, Saved, Services, Upload, backend_for
from minibuild.cache.document import EMBEDDED, CacheDocument, CachedStep
from minibuild.cache.spec import CacheSpec, installed, parse_cache
from minibuild.errors import MinibuildError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.oci.mediatype import OCI_LAYER
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from tests.servers import s3
from tests.servers.docker_registry import PROGRAM, docker_registry

SERVICES = Services(lambda: Registry(RegistryOptions(attempts=2)))
Maker = Callable[[], Backend]


class MemoryCache:
    """The least that a backend can be."""

    reference = None
    documents: ClassVar[dict[str, CacheDocument]] = {}
    layers: ClassVar[dict[Digest, bytes]] = {}

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self) -> CacheDocument | None:
        return self.documents.get(self._name)

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        if descriptor.digest not in self.layers:
            raise MinibuildError("no such layer")
        with blobs.writer() as writer:
            writer.write(self.layers[descriptor.digest])
            writer.commit(expect=descriptor.digest, size=descriptor.size)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        missing = [upload for upload in uploads if upload.descriptor.digest not in self.layers]
        for upload in missing:
            with upload.opener() as file:
                self.layers[upload.descriptor.digest] = file.read()
        self.documents[self._name] = document
        return Saved(len(missing), len(uploads) - len(missing))

    def close(self) -> None:
        pass


def open_memory(spec: CacheSpec, services: Services) -> MemoryCache:
    return MemoryCache(spec.options.get("name", ""))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package, as pip would have installed it, that brings a cache type called memory."""
    folder = tmp_path / "site" / "others-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[minibuild.cache_backends]\nmemory = others:open_cache\n")
    (tmp_path / "site" / "others.py").write_text("from tests_cache_memory import open_cache\n")
    module = type(sys)("tests_cache_memory")
    module.open_cache = open_memory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_cache_memory", module)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    MemoryCache.documents.clear()
    MemoryCache.layers.clear()


@pytest.fixture(params=["registry", "local", "s3", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path, plugin: None) -> Iterator[Maker]:
    """Opens the same cache anew each time it is called."""
    kind: str = request.param
    if kind == "registry":
        if PROGRAM is None:
            pytest.skip("docker-registry is not installed")
        (tmp_path / "registry").mkdir()
        with docker_registry(tmp_path / "registry") as server:
            text = f"type=registry,ref={server.host}/app:cache"
            yield maker(text, text)
    elif kind == "local":
        yield maker(f"type=local,dest={tmp_path / 'cache'}", f"type=local,src={tmp_path / 'cache'}")
    elif kind == "s3":
        pytest.importorskip("obstore")
        if s3.PROGRAM is None:
            pytest.skip("moto_server is not installed")
        with s3.s3_server(tmp_path) as bucket:
            text = f"{bucket.options},prefix=ci/,name=one"
            yield maker(text, text)
    else:
        yield maker("type=memory,name=one", "type=memory,name=one")


def maker(to: str, source: str) -> Maker:
    assert parse_cache(to, "--cache-to", export=True).kind
    return lambda: backend_for(parse_cache(source, "--cache-from", export=False), SERVICES)


def layer(content: bytes) -> Layer:
    digest = Digest.of(content)
    return Layer(Digest.of(b"diff " + content), Descriptor(OCI_LAYER, digest, len(content)))


def document(*contents: bytes, notes: dict[str, str] | None = None) -> CacheDocument:
    steps = [
        CachedStep(f"{number:064x}", layer(content), 1000.5, 2.25, f"RUN {number}")
        for number, content in enumerate(contents)
    ]
    return CacheDocument(tuple(steps), notes or {})


def uploads(*contents: bytes) -> list[Upload]:
    def opener(content: bytes) -> Callable[[], IO[bytes]]:
        return lambda: io.BytesIO(content)

    return [Upload(layer(content).descriptor, opener(content)) for content in contents]


def silent(descriptor: Descriptor, done: int) -> None:
    pass


def test_nothing_is_there_before_the_first_save(make: Maker) -> None:
    assert make().load() is None


def test_what_was_saved_is_loaded_by_another(make: Maker) -> None:
    saved = document(b"one", b"two", notes={"tree-x": "content top"})
    assert make().save(saved, uploads(b"one", b"two"), silent) == Saved(2, 0)
    assert make().load() == saved


def test_a_layer_comes_back_whole(make: Maker, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    make().save(document(content), uploads(content), silent)
    reader = make()
    assert reader.load() is not None
    with Store.open(tmp_path / "store") as store:
        reader.fetch(layer(content).descriptor, store.blobs, silent)
        assert store.blobs.get(Digest.of(content)) == content


def test_layers_that_are_there_are_not_sent_again(make: Maker) -> None:
    make().save(document(b"one"), uploads(b"one"), silent)
    opened: list[bytes] = []

    def watched(content: bytes) -> Callable[[], IO[bytes]]:
        def opener() -> IO[bytes]:
            opened.append(content)
            return io.BytesIO(content)

        return opener

    again = [Upload(layer(content).descriptor, watched(content)) for content in (b"one", b"two")]
    assert make().save(document(b"one", b"two"), again, silent) == Saved(1, 1)
    assert set(opened) == {b"two"}


def test_a_save_replaces_the_records(make: Maker) -> None:
    make().save(document(b"one", b"two"), uploads(b"one", b"two"), silent)
    make().save(document(b"two"), uploads(b"two"), silent)
    assert make().load() == document(b"two")


def test_records_too_large_to_embed_are_found_too(make: Maker) -> None:
    many = CacheDocument(
        tuple(CachedStep(f"{n:064x}", layer(b"one"), 0.0, 0.0, "x" * 900) for n in range(EMBEDDED // 900))
    )
    assert len(many.dump()) > EMBEDDED
    make().save(many, uploads(b"one"), silent)
    assert make().load() == many


def test_a_layer_that_is_not_there_is_an_error_and_leaves_nothing(make: Maker, tmp_path: Path) -> None:
    make().save(document(b"one"), uploads(b"one"), silent)
    reader = make()
    reader.load()
    missing = layer(b"never saved").descriptor
    with Store.open(tmp_path / "store") as store:
        with pytest.raises((MinibuildError, StoreError)):
            reader.fetch(missing, store.blobs, silent)
        assert not store.blobs.has(missing.digest)


def test_two_may_save_at_once(make: Maker) -> None:
    errors: list[BaseException] = []

    def save(number: int) -> None:
        try:
            content = b"%d" % number
            make().save(document(content), uploads(content), silent)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert make().load() in [document(b"%d" % number) for number in range(4)]


def test_an_installed_backend_is_a_type_of_its_own(plugin: None) -> None:
    assert "memory" in installed()
    assert isinstance(backend_for(CacheSpec("memory"), SERVICES), MemoryCache)
