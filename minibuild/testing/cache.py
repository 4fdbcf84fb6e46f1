"""What every shared cache keeps to."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError
from minibuild_store.store import Store

from minibuild.cache.backend import Backend, Saved, Upload
from minibuild.cache.document import EMBEDDED, CacheDocument, CachedStep
from minibuild.errors import MinibuildError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.oci.mediatype import OCI_LAYER

OpenCache = Callable[[], Backend]
_WAIT = 60.0  # seconds that savers at once may take


class CacheBackendContract:
    """Give a fixture `open_cache`: each call opens the same cache anew, which is empty when a test begins."""

    def test_nothing_is_there_before_the_first_save(self, open_cache: OpenCache) -> None:
        assert open_cache().load() is None

    def test_what_was_saved_is_loaded_by_another(self, open_cache: OpenCache) -> None:
        saved = document(b"one", b"two", notes={"tree-x": "content top"})
        assert open_cache().save(saved, uploads(b"one", b"two"), silent) == Saved(2, 0)
        assert open_cache().load() == saved

    def test_a_layer_comes_back_whole(self, open_cache: OpenCache, tmp_path: Path) -> None:
        content = bytes(range(256)) * 20_000
        open_cache().save(document(content), uploads(content), silent)
        reader = open_cache()
        assert reader.load() is not None
        with Store.open(tmp_path / "store") as store:
            reader.fetch(layer(content).descriptor, store.blobs, silent)
            assert store.blobs.get(Digest.of(content)) == content

    def test_layers_that_are_there_are_not_sent_again(self, open_cache: OpenCache) -> None:
        open_cache().save(document(b"one"), uploads(b"one"), silent)
        opened: list[bytes] = []

        def watched(content: bytes) -> Callable[[], IO[bytes]]:
            def opener() -> IO[bytes]:
                opened.append(content)
                return io.BytesIO(content)

            return opener

        again = [Upload(layer(content).descriptor, watched(content)) for content in (b"one", b"two")]
        assert open_cache().save(document(b"one", b"two"), again, silent) == Saved(1, 1)
        assert set(opened) == {b"two"}

    def test_a_save_replaces_the_records(self, open_cache: OpenCache) -> None:
        open_cache().save(document(b"one", b"two"), uploads(b"one", b"two"), silent)
        open_cache().save(document(b"two"), uploads(b"two"), silent)
        assert open_cache().load() == document(b"two")

    def test_records_of_any_size_are_found(self, open_cache: OpenCache) -> None:
        steps = (CachedStep(f"{n:064x}", layer(b"one"), 0.0, 0.0, "x" * 900) for n in range(EMBEDDED // 900))
        many = CacheDocument(tuple(steps))
        assert len(many.dump()) > EMBEDDED
        open_cache().save(many, uploads(b"one"), silent)
        assert open_cache().load() == many

    def test_a_layer_that_is_not_there_is_an_error_and_leaves_nothing(
        self, open_cache: OpenCache, tmp_path: Path
    ) -> None:
        open_cache().save(document(b"one"), uploads(b"one"), silent)
        reader = open_cache()
        reader.load()
        missing = layer(b"never saved").descriptor
        with Store.open(tmp_path / "store") as store:
            with pytest.raises((MinibuildError, StoreError)):
                reader.fetch(missing, store.blobs, silent)
            assert not store.blobs.has(missing.digest)

    def test_a_save_that_fails_leaves_the_old_records(self, open_cache: OpenCache) -> None:
        open_cache().save(document(b"one"), uploads(b"one"), silent)

        def broken() -> IO[bytes]:
            raise MinibuildError("the layer is gone")

        two = Upload(layer(b"two").descriptor, broken)
        with pytest.raises(MinibuildError):
            open_cache().save(document(b"two"), [two], silent)
        assert open_cache().load() == document(b"one")

    def test_two_may_save_at_once(self, open_cache: OpenCache) -> None:
        errors: list[BaseException] = []

        def save(number: int) -> None:
            try:
                content = b"%d" % number
                open_cache().save(document(content), uploads(content), silent)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=save, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_WAIT)
            assert not thread.is_alive()
        assert not errors
        assert open_cache().load() in [document(b"%d" % number) for number in range(4)]

    def test_it_may_be_closed_when_all_is_done(self, open_cache: OpenCache) -> None:
        cache = open_cache()
        cache.save(document(b"one"), uploads(b"one"), silent)
        cache.close()


def layer(content: bytes) -> Layer:
    """A layer whose blob is `content`."""
    digest = Digest.of(content)
    return Layer(Digest.of(b"diff " + content), Descriptor(OCI_LAYER, digest, len(content)))


def document(*contents: bytes, notes: dict[str, str] | None = None) -> CacheDocument:
    """The records of one step for each layer."""
    steps = [
        CachedStep(f"{number:064x}", layer(content), 1000.5, 2.25, f"RUN {number}")
        for number, content in enumerate(contents)
    ]
    return CacheDocument(tuple(steps), notes or {})


def uploads(*contents: bytes) -> list[Upload]:
    """The layers whose blobs are `contents`, to be saved."""

    def opener(content: bytes) -> Callable[[], IO[bytes]]:
        return lambda: io.BytesIO(content)

    return [Upload(layer(content).descriptor, opener(content)) for content in contents]


def silent(descriptor: Descriptor, done: int) -> None:
    """Takes progress and drops it."""
