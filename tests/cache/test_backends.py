"""The contract of shared caches over all of them: registry, folder, object store, somebody's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Progress, Saved, Services, Upload, backend_for
from minibuild.cache.document import CacheDocument
from minibuild.cache.spec import parse_cache
from minibuild.errors import MinibuildError
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from minibuild.testing.cache import CacheBackendContract, OpenCache
from tests.feature.conftest import lacking
from tests.servers import s3
from tests.servers.actions_cache import ActionsCache
from tests.servers.docker_registry import PROGRAM, docker_registry

SERVICES = Services(lambda: Registry(RegistryOptions(attempts=2)))


def opener(to: str, source: str) -> OpenCache:
    """What opens the cache that is written by `to` and read by `source`."""
    assert parse_cache(to, "--cache-to", export=True).kind
    return lambda: backend_for(parse_cache(source, "--cache-from", export=False), SERVICES)


class TestRegistryCache(CacheBackendContract):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        if PROGRAM is None:
            lacking("docker-registry is not installed")
        (tmp_path / "registry").mkdir()
        with docker_registry(tmp_path / "registry") as server:
            text = f"type=registry,ref={server.host}/app:cache"
            yield opener(text, text)


class TestLocalCache(CacheBackendContract):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> OpenCache:
        return opener(f"type=local,dest={tmp_path / 'cache'}", f"type=local,src={tmp_path / 'cache'}")


class TestObjectCache(CacheBackendContract):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        pytest.importorskip("obstore")
        if s3.PROGRAM is None:
            lacking("moto_server is not installed")
        with s3.s3_server(tmp_path) as bucket:
            text = f"{bucket.options},prefix=ci/,name=one"
            yield opener(text, text)


class TestGhaCache(CacheBackendContract):
    @pytest.fixture(params=[1, 2])
    def open_cache(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[OpenCache]:
        monkeypatch.setattr("minibuild.cache.ghaservice._CHUNK", 1 << 20)
        with ActionsCache() as server:
            text = f"{server.options(request.param, server.token())},scope=one"
            yield opener(text, text)


class MemoryCache:
    """The least that a cache can be."""

    reference = None
    document: ClassVar[CacheDocument | None] = None
    layers: ClassVar[dict[Digest, bytes]] = {}

    def load(self) -> CacheDocument | None:
        return self.document

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
        MemoryCache.document = document
        return Saved(len(missing), len(uploads) - len(missing))

    def close(self) -> None:
        pass


class TestMemoryCache(CacheBackendContract):
    @pytest.fixture
    def open_cache(self) -> OpenCache:
        MemoryCache.document = None
        MemoryCache.layers.clear()
        return MemoryCache
