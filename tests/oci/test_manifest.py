"""Manifests and indexes: what is accepted, what is kept, what is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minibuild_store.digest import Digest

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import (
    ForeignDescriptor,
    Index,
    InvalidManifest,
    Manifest,
    compatible,
    is_attestation,
    parse_document,
)
from minibuild.oci.mediatype import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from minibuild.oci.platform import Platform

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))
CONFIG = Descriptor(OCI_CONFIG, A, 10)
LAYERS = (
    Descriptor(OCI_LAYER_GZIP, B, 20),
    Descriptor(OCI_LAYER_GZIP, C, 30, annotations=(("k", "<v>&"), ("n", "ä\u2028"))),
)


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(Manifest.of(CONFIG, LAYERS).raw), **changes}


def parse(**changes: Any) -> Manifest:
    return Manifest.parse(json.dumps(document(**changes)).encode())


def test_a_new_manifest_has_the_bytes_buildkit_would_write() -> None:
    made = Manifest.of(CONFIG, LAYERS[1:], annotations={"z": "1", "a": "2"})
    assert made.raw.decode() == (
        "{\n"
        '  "schemaVersion": 2,\n'
        f'  "mediaType": "{OCI_MANIFEST}",\n'
        '  "config": {\n'
        f'    "mediaType": "{OCI_CONFIG}",\n'
        f'    "digest": "{A}",\n'
        '    "size": 10\n'
        "  },\n"
        '  "layers": [\n'
        "    {\n"
        f'      "mediaType": "{OCI_LAYER_GZIP}",\n'
        f'      "digest": "{C}",\n'
        '      "size": 30,\n'
        '      "annotations": {\n'
        '        "k": "\\u003cv\\u003e\\u0026",\n'
        '        "n": "ä\\u2028"\n'
        "      }\n"
        "    }\n"
        "  ],\n"
        '  "annotations": {\n'
        '    "a": "2",\n'
        '    "z": "1"\n'
        "  }\n"
        "}"
    )


def test_what_is_written_reads_back() -> None:
    made = Manifest.of(CONFIG, LAYERS, media_type=DOCKER_MANIFEST, annotations={"a": "b"})
    assert Manifest.parse(made.to_bytes()) == made
    index = Index.of([replace(CONFIG, platform=Platform("linux", "arm", "v7"))], media_type=DOCKER_INDEX)
    assert Index.parse(index.to_bytes()) == index


def test_bytes_from_outside_are_kept_as_they_are() -> None:
    data = json.dumps(document(), separators=(" ,", ":")).encode() + b"\n"
    parsed = Manifest.parse(data)
    assert parsed.to_bytes() == data
    assert parsed.digest == Digest.of(data)
    assert parsed.descriptor == Descriptor(OCI_MANIFEST, Digest.of(data), len(data))


def test_a_document_without_media_type_is_known_by_what_it_was_sent_as_or_holds() -> None:
    plain = document()
    del plain["mediaType"]
    data = json.dumps(plain).encode()
    assert Manifest.parse(data).media_type == OCI_MANIFEST
    assert Manifest.parse(data, DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert isinstance(parse_document(b'{"schemaVersion": 2, "manifests": []}'), Index)


def test_addresses_of_a_foreign_layer_are_kept() -> None:
    layer = {**document()["layers"][0], "urls": ["https://h.example/x"]}
    parsed = parse(layers=[layer]).layers[0]
    assert isinstance(parsed, ForeignDescriptor)
    assert parsed.urls == ("https://h.example/x",)
    assert list(parsed.to_json()) == ["mediaType", "digest", "size", "urls"]
    assert Manifest.parse(Manifest.of(CONFIG, [parsed]).raw).layers == (parsed,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"schemaVersion": True}, "schemaVersion is true, want 2"),
        ({"schemaVersion": None}, "schemaVersion is null"),
        ({"mediaType": 5}, "mediaType is 5"),
        ({"mediaType": "text/plain"}, "media type text/plain is neither"),
        ({"mediaType": OCI_INDEX}, "not an image manifest"),
        ({"manifests": []}, "ambiguous"),
        ({"config": None}, "config is null, want an object"),
        ({"config": {"mediaType": "", "digest": A, "size": 1}}, "config.mediaType"),
        ({"config": {"mediaType": "x", "digest": "sha256:1", "size": 1}}, 'config.digest is "sha256:1"'),
        ({"config": {"mediaType": "x", "digest": 1, "size": 1}}, "config.digest is 1"),
        ({"config": {"mediaType": "x", "digest": A, "size": -1}}, "config.size is -1"),
        ({"config": {"mediaType": "x", "digest": A, "size": 1.5}}, "config.size is 1.5"),
        ({"config": {"mediaType": "x", "digest": A, "size": True}}, "config.size is true"),
        ({"layers": {}}, "layers is {}, want a list"),
        ({"layers": ["x"]}, 'layers[0] is "x", want an object'),
        ({"annotations": {"a": 1}}, "annotations is"),
        ({"layers": [{"mediaType": "x", "digest": A, "size": 1, "urls": [1]}]}, "layers[0].urls"),
        ({"layers": [{"mediaType": "x", "digest": A, "size": 1, "platform": 1}]}, "layers[0].platform"),
    ],
)
def test_a_fault_is_named_by_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(**changes)
    assert said in caught.value.message


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifest):
        parse_document(data)


def test_an_index_that_is_also_a_manifest_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="ambiguous"):
        Index.parse(json.dumps(document(mediaType=OCI_INDEX, manifests=[])).encode())


def test_a_document_sent_as_another_kind_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="was sent as"):
        parse_document(Manifest.of(CONFIG, LAYERS).raw, OCI_INDEX)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with pytest.raises(InvalidManifest):
        parse_document(data)


keys = st.sampled_from(["mediaType", "digest", "size", "platform", "annotations", "urls"])
plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10)


@given(
    st.dictionaries(st.sampled_from(["config", "layers", "manifests", "annotations", "mediaType"]), values)
)
def test_no_document_breaks_the_parser(changes: dict[str, Any]) -> None:
    try:
        parse_document(json.dumps(document(**changes)).encode())
    except InvalidManifest as error:
        assert error.message


def index(*platforms: str) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        os_name, architecture, variant = (*text.split("/"), "")[:3]
        platform = Platform(os_name, architecture, variant) if text != "none/" else None
        entries.append(Descriptor(OCI_MANIFEST, Digest.of(b"%d" % number), number, platform))
    return Index.of(entries)


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64/v1"], 1),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["linux/386"], 0),
        ("linux/386", ["linux/amd64"], None),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64/v9", ["linux/arm64", "linux/arm64/v8.2"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm"], None),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("windows/amd64", ["linux/amd64"], None),
        ("linux/amd64", ["unknown/unknown", "none/"], 1),
        ("linux/amd64", ["none/", "linux/amd64"], 1),
        ("linux/amd64", ["linux/x86_64"], 0),
        ("linux/amd64", [], None),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
    ],
)
def test_a_platform_is_chosen_as_containerd_does(wanted: str, offered: list[str], chosen: int | None) -> None:
    found = index(*offered).select(Platform.parse(wanted))
    assert (found.size if found else None) == chosen


def test_attestations_are_told_by_platform_or_annotation() -> None:
    marked = replace(CONFIG, annotations=(("vnd.docker.reference.type", "attestation-manifest"),))
    assert is_attestation(marked)
    assert is_attestation(replace(CONFIG, platform=Platform("unknown", "unknown")))
    assert not is_attestation(CONFIG)


@pytest.mark.parametrize(
    "text", ["linux/amd64/v4", "linux/arm64/v9.3", "linux/arm/v8", "linux/riscv64", "linux/arm/vx"]
)
def test_a_platform_runs_its_own_images_first_and_lists_none_twice(text: str) -> None:
    platform = Platform.parse(text)
    vector = compatible(platform)
    assert vector[0] == platform
    assert len(set(vector)) == len(vector)
