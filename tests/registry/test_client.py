"""Names to images: what is asked, what is believed, what is said when it fails."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest

from minibuild.oci.manifest import Index
from minibuild.oci.mediatype import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.errors import (
    BadAnswer,
    DigestMismatch,
    NotFound,
    RateLimited,
    RegistryError,
    Unreachable,
)
from tests.registry.conftest import Connect, Patience
from tests.servers.faults import change, cut, drop, refuse, status
from tests.servers.images import AMD64, ARM64, small_image
from tests.servers.registry import FakeRegistry


@pytest.fixture
def ref(server: FakeRegistry) -> Reference:
    server.add("app", small_image(), "latest", "1.0", "1.1")
    return Reference.parse(f"{server.host}/app")


def test_one_image_costs_two_requests(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    connect().resolve(ref, AMD64)
    assert [(seen.method, seen.path.split("/")[3]) for seen in server.seen] == [
        ("GET", "manifests"),
        ("GET", "blobs"),
    ]


def test_what_is_known_costs_one_head(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    image = small_image()
    known = {image.manifest.digest: image.manifest.raw, **image.content}
    resolved = connect().resolve(ref, AMD64, known=known.get)
    assert resolved.manifest == image.manifest
    assert [seen.method for seen in server.seen] == ["HEAD"]


def test_what_is_known_by_digest_costs_nothing(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    image = small_image()
    known = {image.manifest.digest: image.manifest.raw, **image.content}
    pinned = ref.with_digest(image.manifest.digest)
    assert connect().resolve(pinned, AMD64, known=known.get).reference == pinned
    assert server.count() == 0


def test_an_attestation_is_never_taken_for_an_image(server: FakeRegistry, connect: Connect) -> None:
    image, attestation = small_image(1), small_image(2)
    index = Index.of(
        [
            replace(attestation.manifest.descriptor, platform=Platform("unknown", "unknown")),
            replace(image.manifest.descriptor, platform=AMD64),
        ]
    )
    server.add("multi", image)
    server.add("multi", attestation)
    server.add_manifest("multi", OCI_INDEX, index.raw, "latest")
    resolved = connect().resolve(Reference.parse(f"{server.host}/multi"), AMD64)
    assert resolved.manifest == image.manifest
    assert resolved.index_digest == index.digest


def test_a_platform_that_is_not_offered_is_answered_with_those_that_are(
    server: FakeRegistry, connect: Connect
) -> None:
    image = small_image(platform=ARM64)
    index = Index.of([replace(image.manifest.descriptor, platform=ARM64)])
    server.add_manifest("multi", OCI_INDEX, index.raw, "latest")
    with pytest.raises(NotFound, match="no image for linux/amd64; it has linux/arm64"):
        connect().resolve(Reference.parse(f"{server.host}/multi"), AMD64)


def test_an_entry_without_platform_is_judged_by_its_config(server: FakeRegistry, connect: Connect) -> None:
    image = small_image(platform=ARM64)
    server.add("multi", image)
    server.add_manifest("multi", OCI_INDEX, Index.of([image.manifest.descriptor]).raw, "latest")
    ref = Reference.parse(f"{server.host}/multi")
    assert connect().resolve(ref, ARM64).manifest == image.manifest
    with pytest.raises(NotFound, match="no image for linux/amd64; it has linux/arm64"):
        connect().resolve(ref, AMD64)


def test_a_manifest_that_is_not_its_digest_is_refused(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(change(lambda body: body + b" "), path="/manifests/")
    with pytest.raises(DigestMismatch) as caught:
        connect().resolve(ref.with_digest(small_image().manifest.digest), AMD64)
    assert caught.value.want == small_image().manifest.digest


def test_a_tag_whose_bytes_differ_from_the_header_is_refused(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(change(lambda body: body + b" "), path="/manifests/")
    with pytest.raises(DigestMismatch):
        connect().resolve(ref, AMD64)


def test_a_config_that_is_not_its_digest_is_refused(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(change(lambda body: body.replace(b"amd64", b"arm64")), path="/blobs/")
    with pytest.raises(DigestMismatch, match="config of"):
        connect().resolve(ref, AMD64)


def test_docker_schema_1_is_refused_in_words(server: FakeRegistry, connect: Connect) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.add_manifest("old", kind, json.dumps({"schemaVersion": 1, "name": "old"}).encode(), "latest")
    with pytest.raises(BadAnswer, match="schema 1") as caught:
        connect().resolve(Reference.parse(f"{server.host}/old"), AMD64)
    assert "Push the image again" in caught.value.cure


def test_an_artifact_is_not_taken_for_an_image(server: FakeRegistry, connect: Connect) -> None:
    image = small_image()
    document = json.loads(image.manifest.raw)
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    server.add_manifest("chart", OCI_MANIFEST, json.dumps(document).encode(), "latest")
    with pytest.raises(BadAnswer, match=r"not a container image.*helm"):
        connect().resolve(Reference.parse(f"{server.host}/chart"), AMD64)


def test_a_page_is_not_taken_for_a_manifest(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    server.fault(status(200, b"<html>log in</html>"), path="/manifests/")
    with pytest.raises(BadAnswer, match="manifest is not JSON") as caught:
        connect().resolve(ref, AMD64)
    assert "login page" in caught.value.cure


def test_a_manifest_sent_under_another_type_is_refused(server: FakeRegistry, connect: Connect) -> None:
    server.add_manifest("odd", DOCKER_MANIFEST, small_image().manifest.raw, "latest")
    with pytest.raises(BadAnswer, match="was sent as"):
        connect().resolve(Reference.parse(f"{server.host}/odd"), AMD64)


def test_a_manifest_without_end_is_not_read_to_its_end(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(status(200, b"x" * (5 << 20)), path="/manifests/")
    with pytest.raises(BadAnswer, match="more than 4194304 bytes"):
        connect().resolve(ref, AMD64)


def test_a_missing_tag_is_told_its_near_miss(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    with pytest.raises(NotFound, match=r"no tag '1\.00' in app.*did you mean 1\.0\?") as caught:
        connect().resolve(replace(ref, tag="1.00"), AMD64)
    assert caught.value.status == 404
    assert caught.value.codes == ("MANIFEST_UNKNOWN",)


def test_a_missing_repository_is_called_that(server: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(NotFound, match=r"no repository nowhere: GET http"):
        connect().resolve(Reference.parse(f"{server.host}/nowhere"), AMD64)


def test_head_of_a_missing_tag_is_none_after_one_request(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    assert connect().head(replace(ref, tag="gone")) is None
    assert server.count() == 1


def test_tags_are_read_page_by_page(server: FakeRegistry, connect: Connect) -> None:
    names = [f"v{number:03}" for number in range(25)]
    server.add("app", small_image(), *names)
    server.page = 10
    assert connect().tags(Reference.parse(f"{server.host}/app")) == tuple(names)
    assert server.count("GET", "/tags/list") == 3


def test_a_refused_connection_names_host_port_and_cure(connect: Connect) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"cannot reach {host}: connection refused") as caught:
            connect().resolve(Reference.parse(f"{host}/app"), AMD64)
    assert host in caught.value.cure


def test_a_refused_connection_is_not_tried_again(connect: Connect, patience: Patience) -> None:
    with pytest.raises(Unreachable):
        connect().resolve(Reference.parse("127.0.0.1:1/app"), AMD64)
    assert patience.waited == []


def test_a_rate_limit_waits_as_long_as_it_is_told(
    server: FakeRegistry, ref: Reference, connect: Connect, patience: Patience
) -> None:
    server.fault(status(429, Retry_After="7"), path="/manifests/", times=1)
    connect().resolve(ref, AMD64)
    assert patience.waited == [7.0]


def test_a_rate_limit_may_name_a_point_in_time(
    server: FakeRegistry, ref: Reference, connect: Connect, patience: Patience
) -> None:
    server.fault(status(429, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), path="/manifests/", times=1)
    connect(max_retry_after=20.0).resolve(ref, AMD64)
    assert patience.waited == [20.0]


def test_a_rate_limit_that_stays_says_so(server: FakeRegistry, ref: Reference, connect: Connect) -> None:
    server.fault(refuse(429, "TOOMANYREQUESTS", "slow down"), path="/manifests/")
    with pytest.raises(RateLimited, match="slow down") as caught:
        connect(attempts=2).resolve(ref, AMD64)
    assert "docker login" in caught.value.cure


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_a_document_cut_in_the_middle_is_got_again(
    server: FakeRegistry, ref: Reference, connect: Connect, path: str
) -> None:
    server.fault(cut(after=10), path=path, times=2)
    assert connect().resolve(ref, AMD64).manifest == small_image().manifest


def test_a_registry_without_head_is_asked_for_the_whole(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(status(405), method="HEAD")
    assert connect().resolve(ref, AMD64, known=lambda _: None).manifest == small_image().manifest


def test_a_dropped_connection_is_tried_again(
    server: FakeRegistry, ref: Reference, connect: Connect, patience: Patience
) -> None:
    server.fault(drop(), times=2)
    connect().resolve(ref, AMD64)
    assert len(patience.waited) == 2


def test_a_connection_dropped_every_time_is_unreachable(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(drop())
    with pytest.raises(Unreachable, match="the connection was cut"):
        connect(attempts=3).resolve(ref, AMD64)
    assert server.count() == 3


def test_what_a_server_says_cannot_reach_the_terminal_as_commands(
    server: FakeRegistry, ref: Reference, connect: Connect
) -> None:
    server.fault(refuse(400, "BAD\x1b[2J", "a\x07b\nc" + "x" * 1000), path="/manifests/")
    with pytest.raises(RegistryError) as caught:
        connect().resolve(ref, AMD64)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
