"""Registries that are down, refuse, fail or lie: exit code 4, what was asked of whom, and what to do."""

from __future__ import annotations

import json

import pytest

from minibuild.registry.client import Registry
from tests.feature.project import Image, Project
from tests.servers.faults import Fault, change, cut, drop, status
from tests.servers.registry import FakeRegistry


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries."""
    assert Registry.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Registry.__init__.__kwdefaults__, "wait", lambda seconds: None)


@pytest.fixture
def image(project: Project, registry: FakeRegistry) -> Image:
    """The base image, also as ``base:1`` at the registry."""
    layout = Image(project.bases, "busybox")
    repository = registry.repository("base")
    for descriptor in (layout.manifest["config"], *layout.manifest["layers"]):
        repository.blobs[descriptor["digest"]] = layout.blob(descriptor["digest"])
    registry.add_manifest("base", layout.manifest["mediaType"], layout.blob(layout.digest), "1")
    project.dockerfile(f"FROM {registry.host}/base:1\nRUN echo ran > /ran\n")
    return layout


def refused(project: Project) -> str:
    done = project.build()
    assert done.code == 4, done.err
    return done.error


@pytest.mark.parametrize(
    ("code", "said", "cure"),
    [
        (401, "was denied", "docker login"),
        (403, "was denied", "docker login"),
        (404, "has no tag '1'", "Check the name"),
        (429, "limits the rate of requests", "Wait"),
        (500, "500 Internal Server Error", "try again later"),
        (503, "503 Service Unavailable", "try again later"),
    ],
)
def test_an_answer_that_is_no_image(
    project: Project, registry: FakeRegistry, image: Image, code: int, said: str, cure: str
) -> None:
    registry.fault(status(code), path="/manifests/")
    error = refused(project)
    assert error.startswith("Dockerfile:1\n")
    assert registry.host in error and said in error and str(code) in error and cure in error
    registry.heal()
    project.built()


def test_a_registry_that_is_down(project: Project) -> None:
    project.dockerfile("FROM 127.0.0.1:1/base:1\n")
    error = refused(project)
    assert "cannot reach 127.0.0.1:1: connection refused" in error
    assert "Start the registry" in error


def test_a_tag_and_a_repository_that_are_not_there(
    project: Project, registry: FakeRegistry, image: Image
) -> None:
    project.dockerfile(f"FROM {registry.host}/base:2\n")
    assert "has no tag '2' in base" in refused(project)
    project.dockerfile(f"FROM {registry.host}/bose:1\n")
    assert "has no repository bose" in refused(project)


def _spoil(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if data else data


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_data_with_the_wrong_digest_is_refused_and_not_kept(
    project: Project, registry: FakeRegistry, image: Image, what: str
) -> None:
    digest = {
        "manifest": image.digest,
        "config": image.manifest["config"]["digest"],
        "layer": image.manifest["layers"][0]["digest"],
    }[what]
    project.dockerfile(f"FROM {registry.host}/base@{image.digest}\nRUN echo ran > /ran\n")
    registry.fault(change(_spoil), method="GET", path=digest)
    error = refused(project)
    assert "wrong" in error and digest in error
    registry.heal()
    assert project.image().text("ran") == "ran\n"


@pytest.mark.parametrize("fault", [status(500), status(404), drop()])
def test_a_layer_that_does_not_come(
    project: Project, registry: FakeRegistry, image: Image, fault: Fault
) -> None:
    digest = image.manifest["layers"][0]["digest"]
    registry.fault(fault, method="GET", path=digest)
    error = refused(project)
    assert error.startswith("Dockerfile:2\n")
    assert registry.host in error
    registry.heal()
    project.built()


def test_a_layer_that_is_cut_off_now_and_then_is_resumed(
    project: Project, registry: FakeRegistry, image: Image
) -> None:
    digest = image.manifest["layers"][0]["digest"]
    registry.fault(cut(500_000), method="GET", path=digest, times=2)
    project.built()
    assert [one.headers.get("Range") for one in registry.requests("GET", digest)][1:] == [
        "bytes=500000-", "bytes=1000000-"
    ]  # fmt: skip


def test_a_document_that_is_no_manifest(project: Project, registry: FakeRegistry) -> None:
    registry.add_manifest("base", "application/vnd.oci.image.manifest.v1+json", b'{"not": "one"}', "1")
    project.dockerfile(f"FROM {registry.host}/base:1\n")
    assert registry.host in refused(project)


def test_an_index_without_this_platform_names_those_it_has(project: Project, registry: FakeRegistry) -> None:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "0" * 64,
        "size": 2,
        "platform": {"os": "linux", "architecture": "mips"},
    }
    index = {"schemaVersion": 2, "manifests": [entry]}
    media_type = "application/vnd.oci.image.index.v1+json"
    registry.add_manifest("base", media_type, json.dumps({**index, "mediaType": media_type}).encode(), "1")
    project.dockerfile(f"FROM {registry.host}/base:1\n")
    assert "linux/mips" in refused(project)


@pytest.mark.parametrize("code", [401, 429, 500])
def test_a_push_that_is_refused(project: Project, registry: FakeRegistry, image: Image, code: int) -> None:
    registry.fault(status(code), path="/blobs/uploads/")
    done = project.build("--push", "-t", f"{registry.host}/app:1")
    assert done.code == 4
    assert registry.host in done.error and str(code) in done.error
    registry.heal()
    done = project.built("--push", "-t", f"{registry.host}/app:1")
    assert done.cached("RUN echo ran")
    assert "1" in registry.repository("app").tags
