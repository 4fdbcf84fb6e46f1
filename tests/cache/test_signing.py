"""Signed caches: what is not signed by a key that is known is no hit, and costs no more than a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from minibuild_store.digest import Digest

from minibuild.cache.document import CacheDocument, CachedStep, InvalidCache, read_document
from minibuild.cache.signing import signed, signing_key, verify, verifying_keys
from minibuild.cache.spec import parse_cache
from minibuild.errors import UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from tests.cache.test_sharing import TEXT, fresh
from tests.feature.project import Done, Project

PEM = serialization.Encoding.PEM
PRIVATE = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PUBLIC = (PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of a new key: private, public."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(*PRIVATE))
    public.write_bytes(key.public_key().public_bytes(*PUBLIC))
    return private, public


@pytest.fixture
def written(project: Project) -> Project:
    """A fresh store, and in ``cache`` what ``ours.key`` has signed."""
    project.write("a.txt", "a")
    private, _ = key_pair(project.root, "ours")
    write(project, f",sign-key={private}")
    fresh(project)
    return project


def write(project: Project, more: str) -> Done:
    return project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max{more}", text=TEXT)


def read(project: Project, name: str) -> Done:
    keys = ";".join(str(project.root / one) for one in name.split(";"))
    return project.built("--cache-from", f"type=local,src={project.root / 'cache'},verify-key={keys}")


def test_what_our_key_signed_is_a_hit(written: Project) -> None:
    done = read(written, "ours.pub")
    assert done.summary == (4, 4) and "WARNING" not in done.err


def test_one_of_several_keys_is_enough(written: Project) -> None:
    key_pair(written.root, "next")
    assert read(written, "next.pub;ours.pub").summary == (4, 4)


def test_another_key_costs_a_warning_and_a_rebuild(written: Project) -> None:
    key_pair(written.root, "other")
    done = read(written, "other.pub")
    assert done.summary == (4, 0)
    assert "is not used: its signature is not by a key of verify-key=" in done.err


def test_an_unsigned_cache_costs_a_warning_and_a_rebuild(written: Project) -> None:
    write(written, "")
    fresh(written)
    done = read(written, "ours.pub")
    assert done.summary == (4, 0)
    assert "is not used: it is not signed" in done.err


def test_who_gives_no_key_reads_a_signed_cache_as_any(written: Project) -> None:
    done = written.built("--cache-from", f"type=local,src={written.root / 'cache'}")
    assert done.summary == (4, 4)


def document() -> CacheDocument:
    digest = Digest.of(b"layer")
    layer = Layer(Digest.of(b"tar"), Descriptor("application/vnd.oci.image.layer.v1.tar", digest, 5))
    return CacheDocument((CachedStep("key", layer, 1, 2.5, "RUN x"),), {"tree-a": "b c"}, (), "text")


def test_a_signature_outlives_writing_and_reading(tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "k")
    written = signed(document(), signing_key(str(private)))
    verify(read_document(written.dump()), verifying_keys(str(public)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("steps", 0, 0), "another key"),
        (("steps", 0, 2), str(Digest.of(b"other"))),
        (("layers", 0, 1), str(Digest.of(b"other"))),
        (("layers", 0, 2), 6),
        (("notes", "tree-a"), "x"),
        (("build",), "x"),
        (("signature",), "bm8="),
        (("signature",), "not base64!"),
    ],
)
def test_no_part_can_be_changed(tmp_path: Path, path: tuple[str | int, ...], value: object) -> None:
    private, public = key_pair(tmp_path, "k")
    whole = json.loads(signed(document(), signing_key(str(private))).dump())
    part = whole
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(InvalidCache):
        verify(read_document(json.dumps(whole).encode()), verifying_keys(str(public)))


def test_a_file_that_is_no_key_is_refused_before_the_build(tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "k")
    rsa = tmp_path / "rsa.key"
    rsa.write_bytes(generate_private_key(65537, 2048).private_bytes(*PRIVATE))
    for file in (public, rsa, tmp_path / "missing"):
        with pytest.raises(UsageError, match="sign-key="):
            parse_cache(f"type=local,dest=x,sign-key={file}", "--cache-to", export=True)
    with pytest.raises(UsageError, match="verify-key="):
        parse_cache(f"type=local,src=x,verify-key={private}", "--cache-from", export=False)
    with pytest.raises(UsageError, match="other option's"):
        parse_cache(f"type=local,src=x,sign-key={private}", "--cache-from", export=False)
    with pytest.raises(UsageError, match="not signed"):
        parse_cache(f"type=inline,sign-key={private}", "--cache-to", export=True)
