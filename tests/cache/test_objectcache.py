"""Where the object stores are asked that no server is at hand for."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from minibuild.cache.backend import Services, backend_for
from minibuild.cache.spec import parse_cache
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions

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

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


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
