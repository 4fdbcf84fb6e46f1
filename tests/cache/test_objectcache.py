"""Where the object stores are asked that no server is at hand for."""

from __future__ import annotations

import http.server
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.backend import Saved, Services, Upload, backend_for
from minibuild.cache.document import CacheDocument, CachedStep
from minibuild.cache.objectcache import ObjectCache
from minibuild.cache.spec import parse_cache
from minibuild.errors import UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from tests.feature.conftest import lacking
from tests.servers import s3
from tests.servers.serving import serving

SERVICES = Services(lambda: Registry(RegistryOptions()))


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A server that has nothing: its address, and the paths that were asked for."""
    pytest.importorskip("obstore")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.partition("?")[0])
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", asked


CACHES = {
    "gcs": ("type=gcs,bucket=cache,endpoint_url={},prefix=ci,name=one", "/cache/ci%2Fmanifests%2Fone"),
    "azblob": (
        "type=azblob,account_url={}/me,account_name=me,container=cache,secret_access_key=a2V5,name=one",
        "/me/cache/manifests/one",
    ),
}


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_is_asked_at_the_address_given(empty: tuple[str, list[str]], kind: str) -> None:
    address, asked = empty
    text, path = CACHES[kind]
    spec = parse_cache(text.replace("{}", address), "--cache-from", export=False)
    assert backend_for(spec, SERVICES).load() is None
    assert asked == [path]


def memory(refresh: float | None) -> tuple[Any, ObjectCache]:
    """A store in memory, and a cache in it."""
    store = pytest.importorskip("obstore.store").MemoryStore()
    made = ObjectCache(store, "p", ["n"], manifests="m/", blobs="b/", parallel=2, refresh=refresh)
    return store, made


def times(store: Any) -> dict[str, Any]:
    obstore = pytest.importorskip("obstore")
    return {one["path"]: one["last_modified"] for batch in obstore.list(store) for one in batch}


@pytest.mark.parametrize(("refresh", "touched"), [(-1.0, True), (3600.0, False), (None, False)])
def test_a_layer_that_is_there_is_made_new_once_it_is_old(refresh: float | None, touched: bool) -> None:
    store, cache = memory(refresh)
    data = b"layer"
    descriptor = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(data), len(data))
    upload = Upload(descriptor, lambda: io.BytesIO(data))
    document = CacheDocument((CachedStep("key", Layer(Digest.of(b"tar"), descriptor), 1.0, 2.0, "RUN"),))
    assert cache.save(document, [upload], lambda *_: None) == Saved(1, 0)
    path = f"p/b/sha256/{descriptor.digest.hex}"
    before = times(store)
    assert cache.save(document, [upload], lambda *_: None) == Saved(0, 1)
    after = times(store)
    assert (after[path] > before[path]) is touched
    assert set(after) == set(before)


def test_s3_takes_the_copies_that_make_a_layer_new(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    if s3.PROGRAM is None:
        lacking("moto_server is not installed")
    data = b"layer"
    descriptor = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(data), len(data))
    upload = Upload(descriptor, lambda: io.BytesIO(data))
    with s3.s3_server(tmp_path) as bucket:
        text = f"{bucket.options},touch_refresh=0s,retry_max_attempts=2,upload_parallelism=1"
        for sent in (1, 0):
            cache = backend_for(parse_cache(text, "--cache-to", export=True), SERVICES)
            assert cache.save(CacheDocument(()), [upload], lambda *_: None) == Saved(sent, 1 - sent)
        with Store.open(tmp_path / "store") as store:
            cache.fetch(descriptor, store.blobs, lambda *_: None)
            assert store.blobs.get(descriptor.digest) == data


@pytest.mark.parametrize("option", ["touch_refresh=soon", "upload_parallelism=0", "retry_max_attempts=x"])
def test_numbers_that_are_none_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        parse_cache(f"type=s3,bucket=b,{option}", "--cache-to", export=True)
