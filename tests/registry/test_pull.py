"""Blobs into the store: cuts, liars, and who else wants them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.errors import Cancelled
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.reference import Reference
from minibuild.registry.errors import DigestMismatch, NotFound, RegistryError, Unreachable
from tests.registry.conftest import Connect, Patience
from tests.servers.faults import Fault, change, cut, drop, no_range, slow, stall, status
from tests.servers.images import SmallImage, small_image
from tests.servers.registry import FakeRegistry

SIZE = 3_000_000
FETCH = """
import sys
from pathlib import Path
from minibuild_store.digest import Digest
from minibuild_store.store import Store
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry

root, ref, media_type, digest, size = sys.argv[1:]
with Store.open(Path(root)) as store, Registry() as client:
    layer = Descriptor(media_type, Digest.parse(digest), int(size))
    client.fetch_blob(Reference.parse(ref), layer, store.blobs)
"""


@pytest.fixture
def image(server: FakeRegistry) -> SmallImage:
    made = small_image(layers=(SIZE,))
    server.add("app", made, "latest")
    return made


@pytest.fixture
def ref(server: FakeRegistry) -> Reference:
    return Reference.parse(f"{server.host}/app")


def layer_of(image: SmallImage) -> Descriptor:
    return image.manifest.layers[0]


def test_a_blob_that_is_there_is_not_asked_for(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    store.blobs.put(image.layers[0])
    connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert server.count() == 0


def test_a_download_cut_in_the_middle_goes_on_from_there(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    server.fault(cut(after=2_000_000), path="/blobs/", times=1)
    connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert store.blobs.get(layer_of(image).digest) == image.layers[0]
    first, second = server.requests("GET", "/blobs/")
    resumed_at = int(second.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < resumed_at <= first.sent
    assert second.sent == SIZE - resumed_at


def test_every_piece_that_arrives_renews_the_patience(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    for _ in range(6):
        server.fault(cut(after=400_000), path="/blobs/", times=1)
    connect(attempts=2).fetch_blob(ref, layer_of(image), store.blobs)
    assert store.blobs.has(layer_of(image).digest)


def test_another_process_goes_on_where_one_gave_up(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store, tmp_path: Path
) -> None:
    server.fault(cut(after=1_500_000), path="/blobs/", times=1)
    server.fault(drop(), path="/blobs/")
    with pytest.raises(Unreachable):
        connect(attempts=1).fetch_blob(ref, layer_of(image), store.blobs)
    server.heal()
    layer = layer_of(image)
    arguments = [str(tmp_path / "store"), str(ref), layer.media_type, layer.digest, str(layer.size)]
    subprocess.run([sys.executable, "-c", FETCH, *arguments], check=True)
    assert server.requests("GET", "/blobs/")[-1].sent < SIZE
    assert store.blobs.get(layer_of(image).digest) == image.layers[0]


def test_a_server_without_ranges_is_read_from_the_start(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    server.fault(cut(after=1_500_000), path="/blobs/", times=1)
    server.fault(no_range(), path="/blobs/")
    connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert store.blobs.get(layer_of(image).digest) == image.layers[0]


def test_wrong_bytes_do_not_get_into_the_store(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    server.fault(change(lambda body: body[:-1] + b"!"), path="/blobs/")
    with pytest.raises(DigestMismatch, match="sent wrong data") as caught:
        connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert caught.value.want == layer_of(image).digest
    assert not store.blobs.has(layer_of(image).digest)


@pytest.mark.parametrize("how", [lambda body: body[:-5], lambda body: body + b"more"], ids=["short", "long"])
def test_a_body_of_another_length_is_refused(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store, how: object
) -> None:
    server.fault(change(how), path="/blobs/")  # type: ignore[arg-type]
    with pytest.raises(DigestMismatch, match=f"want {SIZE} bytes"):
        connect().fetch_blob(ref, layer_of(image), store.blobs)


def test_wrong_bytes_of_an_earlier_process_are_got_again(
    image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    with store.blobs.partial(layer_of(image).digest) as partial:
        partial.write(b"rubbish" * 100)
    connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert store.blobs.get(layer_of(image).digest) == image.layers[0]


def test_a_partial_longer_than_the_blob_starts_over(
    image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    with store.blobs.partial(layer_of(image).digest) as partial:
        partial.write(b"x" * (SIZE + 1))
    connect().fetch_blob(ref, layer_of(image), store.blobs)
    assert store.blobs.has(layer_of(image).digest, SIZE)


def test_many_threads_that_want_one_blob_fetch_it_once(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    server.fault(slow(0.1), path="/blobs/")
    client = connect()
    threads = [
        threading.Thread(target=client.fetch_blob, args=(ref, layer_of(image), store.blobs)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.count("GET", "/blobs/") == 1
    assert store.blobs.has(layer_of(image).digest)


def test_several_blobs_come_at_once_but_not_more_than_allowed(
    server: FakeRegistry, connect: Connect, store: Store
) -> None:
    many = small_image(5, layers=(1000,) * 9)
    server.add("many", many, "latest")
    server.fault(slow(0.05), path="/blobs/")
    connect(transfers=3).fetch_blobs(
        Reference.parse(f"{server.host}/many"), many.manifest.layers, store.blobs
    )
    assert server.most_at_once <= 3
    assert all(store.blobs.has(layer.digest) for layer in many.manifest.layers)


def test_the_first_fault_stops_the_other_downloads(
    server: FakeRegistry, connect: Connect, store: Store
) -> None:
    many = small_image(6, layers=(1000,) * 20)
    server.add("many", many, "latest")
    server.repository("many").blobs.clear()
    with pytest.raises(NotFound, match="has no blob sha256:"):
        connect(transfers=2).fetch_blobs(
            Reference.parse(f"{server.host}/many"), many.manifest.layers, store.blobs
        )
    assert server.count("GET", "/blobs/") < 20


def test_a_fault_ends_downloads_whose_server_has_stalled(
    server: FakeRegistry, connect: Connect, store: Store
) -> None:
    two = small_image(7, layers=(SIZE, 1000))
    server.add("two", two, "latest")
    stalls, fails = two.manifest.layers
    server.fault(stall(SIZE // 2), path=f"/blobs/{stalls.digest}")
    server.fault(Fault(404, delay=0.5), path=f"/blobs/{fails.digest}")
    with pytest.raises(NotFound):
        connect(read_timeout=20, attempts=2).fetch_blobs(
            Reference.parse(f"{server.host}/two"), two.manifest.layers, store.blobs
        )
    assert server.count("GET", f"/blobs/{stalls.digest}") == 1
    with store.blobs.partial(stalls.digest) as partial:
        assert partial.size


def test_progress_ends_at_the_size_of_the_blob(
    image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    told: list[int] = []
    connect().fetch_blob(ref, layer_of(image), store.blobs, lambda _, done: told.append(done))
    assert told == sorted(told)
    assert told[-1] == SIZE


def test_a_progress_that_raises_cancels_and_keeps_what_came(
    image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    def cancel(descriptor: Descriptor, done: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        connect().fetch_blob(ref, layer_of(image), store.blobs, cancel)
    with store.blobs.partial(layer_of(image).digest) as partial:
        assert partial.size > 0


def test_a_foreign_layer_comes_from_its_own_address(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    layer = layer_of(image)
    server.repository("elsewhere").blobs[layer.digest] = image.layers[0]
    del server.repository("app").blobs[layer.digest]
    urls = tuple(f"http://{server.host}/v2/{name}/blobs/{layer.digest}" for name in ("gone", "elsewhere"))
    foreign = ForeignDescriptor(layer.media_type, layer.digest, layer.size, urls=urls)
    connect().fetch_blob(ref, foreign, store.blobs)
    assert store.blobs.has(layer.digest, layer.size)


def test_a_server_in_trouble_is_asked_again(
    server: FakeRegistry,
    image: SmallImage,
    ref: Reference,
    connect: Connect,
    store: Store,
    patience: Patience,
) -> None:
    server.fault(status(503), path="/blobs/", times=3)
    connect(backoff=1.0).fetch_blob(ref, layer_of(image), store.blobs)
    assert [0.5 * 2**n <= waited <= 2**n for n, waited in enumerate(patience.waited)] == [True] * 3


def test_a_server_that_stays_in_trouble_ends_the_download(
    server: FakeRegistry, image: SmallImage, ref: Reference, connect: Connect, store: Store
) -> None:
    server.fault(status(500), path="/blobs/")
    with pytest.raises(RegistryError, match="500") as caught:
        connect(attempts=3).fetch_blob(ref, layer_of(image), store.blobs)
    assert caught.value.temporary
    assert server.count("GET", "/blobs/") == 3


def test_an_empty_layer_is_fetched(server: FakeRegistry, connect: Connect, store: Store) -> None:
    empty = small_image(7, layers=(0,))
    server.add("empty", empty, "latest")
    connect().fetch_blob(Reference.parse(f"{server.host}/empty"), layer_of(empty), store.blobs)
    assert store.blobs.get(layer_of(empty).digest) == b""
