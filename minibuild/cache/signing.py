"""Signed shared caches: Ed25519 over what a cache's document says, through the extra ``signing``.

A signature covers keys, digests and diff IDs. Layers are checked against those wherever they come from, so it
covers them too. It does not say when a cache was written: who can write the cache can put back an older one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from minibuild_store.blobs import Blobs

from minibuild.cache.backend import Backend, Progress, Saved, Upload
from minibuild.cache.document import CacheDocument, InvalidCache, read_document
from minibuild.cache.spec import CacheSpec
from minibuild.errors import UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference

_SEPARATOR = ";"


class SignedCache:
    """A cache that is signed when it is written, and believed only if it is signed by a key that is known."""

    def __init__(self, cache: Backend, spec: CacheSpec) -> None:
        self._cache = cache
        self._spec = spec

    @property
    def reference(self) -> Reference | None:
        return self._cache.reference

    def load(self) -> CacheDocument | None:
        keys = verifying_keys(self._spec.verify_key)
        document = self._cache.load()
        if document is not None and keys:
            verify(document, keys)
        return document

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        self._cache.fetch(descriptor, blobs, progress)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        if self._spec.sign_key:
            document = signed(document, signing_key(self._spec.sign_key))
        return self._cache.save(document, uploads, progress)

    def close(self) -> None:
        self._cache.close()


def signing_key(file: str) -> Any:
    """The private key in a PEM file. Raises `UsageError`."""
    serialization, ed25519 = _library("sign-key")
    key = _read(file, "sign-key", lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _no_key(file, "sign-key", "it holds no Ed25519 private key")
    return key


def verifying_keys(files: str) -> list[Any]:
    """The public keys in PEM files, their names separated by ``;``. Raises `UsageError`."""
    serialization, ed25519 = _library("verify-key")
    keys = []
    for file in filter(None, files.split(_SEPARATOR)):
        key = _read(file, "verify-key", serialization.load_pem_public_key)
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise _no_key(file, "verify-key", "it holds no Ed25519 public key")
        keys.append(key)
    return keys


def signed(document: CacheDocument, key: Any) -> CacheDocument:
    """The document with its signature."""
    signature: bytes = key.sign(_content(document))
    return document._replace(signature=base64.b64encode(signature).decode())


def verify(document: CacheDocument, keys: list[Any]) -> None:
    """Raises `InvalidCache` unless one of `keys` signed the document."""
    if not document.signature:
        raise InvalidCache("it is not signed")
    try:
        signature = base64.b64decode(document.signature, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidCache("its signature is damaged") from None
    content = _content(document)
    invalid: type[Exception] = import_module("cryptography.exceptions").InvalidSignature
    for key in keys:
        try:
            key.verify(signature, content)
        except invalid:
            continue
        return
    raise InvalidCache("its signature is not by a key of verify-key=")


def _content(document: CacheDocument) -> bytes:
    """What is signed: the document as whoever reads it writes it, without a signature."""
    return b"minibuild cache\n" + read_document(document._replace(signature="").dump()).dump()


def _library(option: str) -> tuple[Any, Any]:
    base = "cryptography.hazmat.primitives"
    try:
        return import_module(f"{base}.serialization"), import_module(f"{base}.asymmetric.ed25519")
    except ImportError:
        raise UsageError(
            f"{option}= needs cryptography, which is not installed",
            cure="Install it with: pip install 'minibuild[signing]'.",
        ) from None


def _read(file: str, option: str, load: Any) -> Any:
    try:
        return load(Path(file).read_bytes())
    except OSError as error:
        raise UsageError(f"{option}={file}: {error.strerror}", cure="Name a PEM file.") from None
    except Exception as error:  # what the library raises for a file that is none has no common base
        raise _no_key(file, option, str(error).split(".")[0] or type(error).__name__) from None


def _no_key(file: str, option: str, why: str) -> UsageError:
    make = "openssl genpkey -algorithm ed25519 -out cache.key"
    cure = make if option == "sign-key" else "openssl pkey -in cache.key -pubout -out cache.pub"
    return UsageError(f"{option}={file}: {why}", cure=f"Make one with: {cure}")
