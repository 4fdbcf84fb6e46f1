"""Reading through mirrors, in order, and falling back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from minibuild_store.store import Store

from minibuild.oci.reference import Reference
from minibuild.registry.errors import NotFound, RegistryError
from minibuild.registry.options import HostOptions, Mirror
from tests.registry.conftest import Connect
from tests.servers.faults import change, drop, status
from tests.servers.images import AMD64, small_image
from tests.servers.registry import FakeRegistry

DEAD = "127.0.0.1:1"


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


def through(origin: FakeRegistry, *mirrors: str, fallback: bool = True) -> dict[str, HostOptions]:
    return {origin.host: HostOptions(tuple(map(Mirror.parse, mirrors)), fallback)}


def test_the_mirror_is_asked_and_not_the_registry(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect, store: Store
) -> None:
    image = small_image()
    mirror.add("hub/app", image, "1")
    ref = Reference.parse(f"{server.host}/app:1")
    client = connect(hosts=through(server, f"{mirror.host}/hub"))
    resolved = client.resolve(ref, AMD64)
    client.fetch_blobs(ref, image.manifest.layers, store.blobs)
    assert resolved.source == Reference.parse(f"{mirror.host}/hub/app:1")
    assert resolved.reference == ref.with_digest(image.manifest.digest)
    assert server.count() == 0


@pytest.mark.parametrize("code", [404, 401, 500, 429])
def test_a_mirror_that_fails_is_passed_over(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect, code: int
) -> None:
    server.add("app", small_image(), "latest")
    mirror.fault(status(code))
    resolved = connect(hosts=through(server, mirror.host)).resolve(
        Reference.parse(f"{server.host}/app"), AMD64
    )
    assert resolved.source.registry == server.host


def test_a_mirror_that_lies_is_passed_over(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect, store: Store
) -> None:
    image = small_image()
    for one in (server, mirror):
        one.add("app", image, "latest")
    mirror.fault(change(lambda body: body[::-1]), path="/blobs/")
    client = connect(hosts=through(server, mirror.host))
    client.fetch_blobs(Reference.parse(f"{server.host}/app"), image.manifest.layers, store.blobs)
    assert store.blobs.get(image.manifest.layers[0].digest) == image.layers[0]


def test_mirrors_are_asked_in_order(server: FakeRegistry, mirror: FakeRegistry, connect: Connect) -> None:
    server.add("app", small_image(1), "latest")
    mirror.add("app", small_image(2), "latest")
    ref = Reference.parse("registry.invalid/app")
    hosts = {"registry.invalid": HostOptions((Mirror(server.host), Mirror(mirror.host)))}
    assert connect(hosts=hosts).resolve(ref, AMD64).manifest == small_image(1).manifest
    assert mirror.count() == 0


def test_without_fall_back_the_mirrors_error_is_the_error(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect
) -> None:
    server.add("app", small_image(), "latest")
    with pytest.raises(NotFound, match=f"{mirror.host} has no repository app"):
        connect(hosts=through(server, mirror.host, fallback=False)).resolve(
            Reference.parse(f"{server.host}/app"), AMD64
        )
    assert server.count() == 0


def test_when_all_fail_each_is_named(server: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(RegistryError) as caught:
        connect(hosts=through(server, DEAD)).resolve(Reference.parse(f"{server.host}/app"), AMD64)
    assert f"{server.host} has no repository app" in caught.value.message
    assert f"before that, {DEAD}: cannot reach {DEAD}: connection refused" in caught.value.message


def test_a_push_goes_to_the_registry_itself(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect
) -> None:
    image = small_image()
    connect(hosts=through(server, mirror.host)).push(
        Reference.parse(f"{server.host}/app"),
        image.manifest.raw,
        image.manifest.media_type,
        image.push_blobs(),
    )
    assert mirror.count() == 0
    assert server.repository("app").tags == {"latest": image.manifest.digest}


def test_a_dead_mirror_is_tried_once_and_not_for_each_blob(
    server: FakeRegistry, mirror: FakeRegistry, connect: Connect, store: Store
) -> None:
    image = small_image(layers=(10,) * 5)
    server.add("app", image, "latest")
    mirror.fault(drop())
    client = connect(hosts=through(server, mirror.host), attempts=1, transfers=1)
    client.fetch_blobs(Reference.parse(f"{server.host}/app"), image.manifest.layers, store.blobs)
    assert mirror.count() == 1
    assert all(store.blobs.has(layer.digest) for layer in image.manifest.layers)
