"""Images into a registry: what is not sent, and what becomes of cuts."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from minibuild.errors import Cancelled
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import ForeignDescriptor
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.errors import DigestMismatch, RegistryError, Unauthorized, Unreachable
from minibuild.registry.push import PushBlob, Pushed
from tests.registry.conftest import Connect, Patience
from tests.servers.faults import Fault, cut, drop, refuse, slow, status
from tests.servers.images import SmallImage, small_image
from tests.servers.registry import FakeRegistry

LARGE = 1_000_000


@pytest.fixture
def image() -> SmallImage:
    return small_image(layers=(2000, LARGE))


@pytest.fixture
def ref(server: FakeRegistry) -> Reference:
    return Reference.parse(f"{server.host}/team/app:1")


def push(client: Registry, ref: Reference, image: SmallImage, **how: object) -> Pushed:
    blobs = image.push_blobs(**how)  # type: ignore[arg-type]
    return client.push(ref, image.manifest.raw, image.manifest.media_type, blobs)


def stored(server: FakeRegistry, image: SmallImage) -> bool:
    repository = server.repository("team/app")
    return (
        repository.blobs == {str(digest): data for digest, data in image.content.items()}
        and repository.tags == {"1": image.manifest.digest}
        and repository.manifests[image.manifest.digest][1] == image.manifest.raw
    )


def test_each_blob_is_sent_once_and_the_manifest_last(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    push(connect(), ref, image)
    assert stored(server, image)
    assert server.count("POST", "/blobs/uploads/") == 3
    assert server.seen[-1].method == "PUT"
    assert "/manifests/1" in server.seen[-1].path
    assert server.bytes_received == sum(map(len, image.content.values())) + len(image.manifest.raw)


def test_a_blob_that_is_there_costs_one_head(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    repository = server.repository("team/app")
    repository.blobs |= {str(digest): data for digest, data in image.content.items()}
    done = push(connect(), ref, image)
    assert (done.present, done.uploaded) == (3, 0)
    assert server.count("HEAD", "/blobs/") == 3
    assert server.count("POST") == 0


def test_an_image_that_is_there_costs_one_head_in_all(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.add("team/app", image, "1")
    assert push(connect(), ref, image).unchanged
    assert [seen.method for seen in server.seen] == ["HEAD"]


def test_blobs_of_the_image_under_that_name_are_not_asked_for(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    old, new = small_image(layers=(2000, 3000, 4000)), small_image(layers=(2000, 3000, 5000))
    server.add("team/app", old, "1")
    done = push(connect(), ref, new)
    assert (done.present, done.uploaded) == (2, 2)
    assert server.count("HEAD", "/blobs/") == 2
    assert server.count("GET", "/manifests/1") == 1
    repository = server.repository("team/app")
    assert repository.tags == {"1": new.manifest.digest}
    assert repository.blobs.keys() >= {str(digest) for digest in new.content}


def test_a_blob_that_was_lost_behind_its_manifest_is_sent_again(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    old, new = small_image(layers=(2000, 3000, 4000)), small_image(layers=(2000, 3000, 5000))
    server.add("team/app", old, "1")
    lost = str(old.manifest.layers[0].digest)
    del server.repository("team/app").blobs[lost]
    server.fault(refuse(404, "MANIFEST_BLOB_UNKNOWN"), method="PUT", path="/manifests/1", times=1)
    done = push(connect(), ref, new)
    assert (done.present, done.uploaded) == (1, 3)
    assert lost in server.repository("team/app").blobs
    assert server.repository("team/app").tags == {"1": new.manifest.digest}


@pytest.mark.parametrize("answer", [refuse(403, "DENIED"), status(200, b"no manifest"), status(404)])
def test_a_manifest_that_cannot_be_read_tells_nothing_of_blobs(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect, answer: Fault
) -> None:
    server.add("team/app", small_image(layers=(2000, 3000)), "1")
    server.fault(answer, method="GET", path="/manifests/1")
    push(connect(), ref, image)
    assert server.repository("team/app").tags == {"1": image.manifest.digest}
    assert server.count("HEAD", "/blobs/") == 3


def test_layers_of_a_neighbour_are_mounted(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.add("library/base", image, "latest")
    done = push(connect(), ref, image, mount_from=Reference.parse(f"{server.host}/library/base"), lazy=True)
    assert (done.mounted, done.uploaded) == (2, 1)
    assert server.count("POST", "mount=.*from=library%2Fbase") == 2
    assert stored(server, image)


def test_a_mount_that_is_refused_becomes_an_upload_in_the_same_session(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    done = push(connect(), ref, image, mount_from=Reference.parse(f"{server.host}/library/gone"))
    assert (done.mounted, done.uploaded) == (0, 3)
    assert server.count("POST", "mount=") == 2
    assert server.count("POST", "/uploads/$") == 1


def test_a_name_of_another_registry_is_no_reason_to_mount(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    push(connect(), ref, image, mount_from=Reference.parse("registry.example/base"))
    assert server.count("POST", "mount=") == 0


def test_absolute_locations_and_their_queries_are_kept(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.absolute_locations = True
    push(connect(), ref, image)
    assert server.count("PUT", r"\?_state=a%3Db&digest=sha256%3A") == 3


def test_an_upload_that_is_cut_begins_anew(
    server: FakeRegistry, ref: Reference, connect: Connect, patience: Patience
) -> None:
    image = small_image(layers=(LARGE,))
    server.repository("team/app").blobs[image.manifest.config.digest] = image.content[
        image.manifest.config.digest
    ]
    server.fault(cut(after=100_000), method="PUT", path="/uploads/", times=2)
    push(connect(), ref, image)
    assert stored(server, image)
    assert len(patience.waited) == 2


def test_a_piece_that_is_cut_goes_on_from_what_arrived(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(cut(after=50_000), method="PATCH", times=1)
    push(connect(chunked_above=500_000, chunk=200_000), ref, image)
    assert stored(server, image)
    sent = [seen.headers["Content-Range"] for seen in server.requests("PATCH")]
    assert sent[:3] == ["0-199999", "50000-249999", "250000-449999"]
    assert sum(seen.received for seen in server.requests("PATCH")) == LARGE


def test_a_piece_whose_answer_is_lost_is_not_sent_twice(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(status(502), method="PATCH", times=1)
    push(connect(chunked_above=500_000, chunk=400_000), ref, image)
    assert stored(server, image)


def test_pieces_are_as_large_as_the_registry_wants(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.least_chunk = 600_000
    push(connect(chunked_above=500_000, chunk=1000), ref, image)
    assert stored(server, image)
    assert server.count("PATCH") == 2


def test_a_registry_without_patch_gets_one_put(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(status(405), method="PATCH")
    push(connect(chunked_above=500_000), ref, image)
    assert stored(server, image)


def test_a_lost_answer_to_the_last_put_is_no_failure(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(status(504), method="PUT", path="/uploads/", times=1)
    push(connect(), ref, image)
    assert stored(server, image)


def test_a_push_that_is_denied_fails_before_anything_is_sent(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(refuse(403, "DENIED", "no push for you"), method="POST")
    with pytest.raises(Unauthorized, match=r"push to .*team/app:1 was denied .*no push for you") as caught:
        push(connect(), ref, image)
    assert "docker login" in caught.value.cure
    assert server.count("POST") == 1
    assert server.bytes_received == 0


def test_a_check_finds_out_that_a_push_is_denied(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(refuse(403, "DENIED"), method="POST")
    with pytest.raises(Unauthorized):
        connect().check_push(ref)


def test_a_check_leaves_no_upload_behind(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    connect().check_push(ref)
    assert not server.uploads


def test_a_failed_push_leaves_the_tag_alone(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(drop(), method="PUT", path="/blobs/uploads/")
    with pytest.raises(Unreachable):
        push(connect(attempts=2), ref, image)
    assert server.repository("team/app").tags == {}


def test_several_tags_get_one_image(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    blobs = image.push_blobs()
    connect().push(ref, image.manifest.raw, image.manifest.media_type, blobs, tags=["2", "1", "latest"])
    assert server.repository("team/app").tags == dict.fromkeys(("1", "2", "latest"), image.manifest.digest)
    assert server.count("PUT", "/manifests/") == 3


def test_no_tag_means_by_digest_alone(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    push(connect(), replace(ref, tag="", digest=image.manifest.digest), image)
    assert server.repository("team/app").tags == {}
    assert image.manifest.digest in server.repository("team/app").manifests


def test_a_name_with_the_digest_of_another_image_is_refused(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    with pytest.raises(DigestMismatch):
        push(connect(), ref.with_digest(small_image(9).manifest.digest), image)
    assert server.count() == 0


@pytest.mark.parametrize("threshold", [100, 1 << 30], ids=["in pieces", "whole"])
def test_a_blob_shorter_than_promised_ends_the_push(
    ref: Reference, image: SmallImage, connect: Connect, threshold: int
) -> None:
    layer = image.manifest.layers[1]
    blob = PushBlob(layer, lambda: io.BytesIO(b"too short"))
    with pytest.raises(OSError, match="ended after 9"):
        connect(chunked_above=threshold).push(ref, image.manifest.raw, image.manifest.media_type, [blob])


def test_progress_ends_at_the_size_of_each_blob(ref: Reference, image: SmallImage, connect: Connect) -> None:
    last: dict[str, int] = {}

    def note(descriptor: Descriptor, done: int) -> None:
        last[descriptor.digest] = done

    blobs = image.push_blobs()
    connect().push(ref, image.manifest.raw, image.manifest.media_type, blobs, note)
    assert last == {str(digest): len(data) for digest, data in image.content.items()}


def test_a_progress_that_raises_cancels_the_push(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    def cancel(descriptor: Descriptor, done: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        connect().push(ref, image.manifest.raw, image.manifest.media_type, image.push_blobs(), cancel)
    assert server.repository("team/app").tags == {}


def test_a_foreign_layer_is_left_to_its_makers(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    layer = image.manifest.layers[1]
    foreign = ForeignDescriptor(layer.media_type, layer.digest, layer.size, urls=("https://h.example/x",))
    blobs = [*image.push_blobs()[:2], PushBlob(foreign)]
    done = connect().push(ref, image.manifest.raw, image.manifest.media_type, blobs)
    assert done.uploaded == 2
    assert server.repository("team/app").tags == {"1": image.manifest.digest}


def test_uploads_keep_to_the_bound(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    server.fault(slow(0.03), method="PUT")
    push(connect(transfers=2), ref, small_image(3, layers=(100,) * 8))
    assert server.most_at_once <= 2


def test_a_registry_that_keeps_failing_is_named_with_its_status(
    server: FakeRegistry, ref: Reference, image: SmallImage, connect: Connect
) -> None:
    server.fault(status(500), method="PUT", path="/manifests/")
    with pytest.raises(RegistryError, match=r"PUT http://127\.0\.0\.1.*/manifests/1: 500"):
        push(connect(attempts=2), ref, image)
