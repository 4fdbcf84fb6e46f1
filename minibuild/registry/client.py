"""The registry as the rest of minibuild sees it: names to images, blobs to the store, images to a name."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from urllib.parse import urljoin

from minibuild_store import stopping
from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest
from minibuild_store.errors import InvalidDigest

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import (
    MAX_DOCUMENT,
    SCHEMA_1,
    Index,
    InvalidManifest,
    Manifest,
    compatible,
    parse_document,
)
from minibuild.oci.mediatype import DOCKER_CONFIG, INDEXES, MANIFESTS, OCI_CONFIG
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.challenge import delete_scope, next_link, pull_scope
from minibuild.registry.errors import BadAnswer, DigestMismatch, NotFound, Refused, RegistryError, redact
from minibuild.registry.message import Response
from minibuild.registry.mirrors import Place, origin
from minibuild.registry.options import RegistryOptions
from minibuild.registry.places import first_of
from minibuild.registry.progress import Progress
from minibuild.registry.pull import fetch_blobs
from minibuild.registry.push import PushBlob, Pushed, Pusher
from minibuild.registry.session import Session
from minibuild.values import dataclass, field

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_CONFIG_LIMIT = 16 << 20
_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream")  # the last from old builders
_TAG_PAGES = 200

Known = Callable[[Digest], bytes | None]
"""Bytes that the caller has already, by digest; spares the request for them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as it was sent, and where from."""

    content: Manifest | Index
    digest: Digest
    place: Place


@dataclass(frozen=True, slots=True)
class Resolved:
    """One image for one platform. `reference` names its manifest by digest; `source` is where it was had."""

    reference: Reference
    manifest: Manifest
    manifest_bytes: bytes = field(repr=False)
    config_bytes: bytes = field(repr=False)
    index_digest: Digest | None
    source: Reference


class Registry:
    """All registries, under one set of options. Thread-safe; connections and tokens are shared.

    `wait` sleeps between tries and may raise to give up early. What is raised is a `RegistryError`, or a
    `UsageError` for a faulty login or certificate file.
    """

    def __init__(
        self,
        options: RegistryOptions | None = None,
        *,
        wait: Callable[[float], None] = stopping.pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or RegistryOptions()
        self._session = Session(self.options, wait=wait, clock=clock)

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def resolve(self, ref: Reference, platform: Platform, *, known: Known | None = None) -> Resolved:
        """The image that `ref` means on `platform`: index, manifest and config, all verified.

        With `known`, a tag is first looked up by HEAD, and documents the caller has are not sent again.
        """
        return first_of(self._session, ref, lambda place: self._resolve(place, ref, platform, known))

    def fetch_manifest(self, ref: Reference, *, known: Known | None = None) -> Manifest | Index:
        """Whatever `ref` names, verified against its digest if it has one."""
        return first_of(self._session, ref, lambda place: self._document(place, ref, known)).content

    def head(self, ref: Reference) -> Descriptor | None:
        """What `ref` names, without its content; None where there is no such name."""
        try:
            return first_of(self._session, ref, lambda place: self._head(place, ref))
        except NotFound:
            return None

    def tags(self, ref: Reference) -> tuple[str, ...]:
        """Every tag of the repository, in the registry's order."""
        return first_of(self._session, ref, lambda place: self._tags(place, _TAG_PAGES))

    def fetch_blob(
        self, ref: Reference, descriptor: Descriptor, blobs: Blobs, progress: Progress | None = None
    ) -> None:
        """Bring one blob of `ref`'s repository into the store, unless it is there.

        Goes on where an earlier download was cut, in this process or another. Digest and size are verified.
        """
        fetch_blobs(self._session, ref, [descriptor], blobs, progress)

    def fetch_blobs(
        self,
        ref: Reference,
        descriptors: Sequence[Descriptor],
        blobs: Blobs,
        progress: Progress | None = None,
    ) -> None:
        """As `fetch_blob` for each of `descriptors`, at most ``options.transfers`` at once."""
        fetch_blobs(self._session, ref, descriptors, blobs, progress)

    def push(
        self,
        ref: Reference,
        manifest: bytes,
        media_type: str,
        blobs: Sequence[PushBlob] = (),
        progress: Progress | None = None,
        *,
        tags: Sequence[str] = (),
    ) -> Pushed:
        """Put an image (or, with no `blobs`, an index of images pushed before) under `ref` and more `tags`.

        By digest alone where `ref` has no tag. Mirrors are for reading: pushes go to the registry itself.
        """
        names = tuple(dict.fromkeys([*([ref.tag] if ref.tag else []), *tags]))
        return Pusher(self._session, ref, progress).push(manifest, media_type, blobs, names)

    def check_push(self, ref: Reference) -> None:
        """Raise `Unauthorized` (or what else is wrong) if a push to `ref` would not be let in."""
        Pusher(self._session, ref, None).check()

    def delete(self, ref: Reference) -> None:
        """Remove the manifest that `ref` names by digest (a tag is looked up first), with all its tags."""
        place = origin(ref, self.options)
        url = place.url(f"manifests/{self._head(place, ref).digest}")
        response = self._session.send(place, "DELETE", url, delete_scope(place.repository))
        if response.status not in (200, 202, 204):
            raise self._session.refused(place, response, what=f"manifest of {ref.familiar}")
        response.close()

    def _resolve(self, place: Place, ref: Reference, platform: Platform, known: Known | None) -> Resolved:
        document = self._document(place, ref, known)
        index_digest = None
        unsure = False
        if isinstance(document.content, Index):
            index_digest = document.digest
            chosen = document.content.select(platform)
            if chosen is None:
                offered = ", ".join(document.content.platforms) or "none"
                raise NotFound(
                    f"{ref.familiar} has no image for {platform}; it has {offered}",
                    cure="Choose one of these with --platform, or another base image.",
                )
            unsure = chosen.platform is None
            document = self._document(place, ref.with_digest(chosen.digest), known)
        manifest = document.content
        if not isinstance(manifest, Manifest):
            raise BadAnswer(f"{ref.familiar} is an index of indexes, which no image is made of")
        config = self._config(place, ref, manifest.config, known)
        if unsure:
            _check_platform(ref, config, platform)
        return Resolved(
            reference=ref.with_digest(document.digest),
            manifest=manifest,
            manifest_bytes=manifest.raw,
            config_bytes=config,
            index_digest=index_digest,
            source=place.reference(ref),
        )

    def _document(self, place: Place, ref: Reference, known: Known | None) -> Document:
        digest = ref.digest
        media_type = ""
        if known is not None:
            try:
                head = self._head(place, ref) if digest is None else None
            except (NotFound, Refused):  # the GET will say it in more words
                head = None
            if head is not None:
                digest, media_type = head.digest, head.media_type
            if digest is not None and (data := known(digest)) is not None:
                return Document(_parse(ref, data, media_type), digest, place)
        url = place.url(f"manifests/{digest or ref.tag}")
        response, data = self._get(place, url, _ACCEPT, MAX_DOCUMENT)
        if response.status != 200:
            raise self._missing(place, ref, response)
        media_type = response.header("Content-Type").partition(";")[0].strip()
        promised = digest or _digest_header(response)
        got = _digest_of(data, promised)
        if promised is not None and got != promised:
            raise DigestMismatch(
                f"{place.registry} sent wrong data for the manifest of {ref.familiar}",
                got=got,
                want=promised,
                url=url,
            )
        return Document(_parse(ref, data, media_type), promised or got, place)

    def _head(self, place: Place, ref: Reference) -> Descriptor:
        url = place.url(f"manifests/{ref.target}")
        response = self._session.send(
            place, "HEAD", url, pull_scope(place.repository), headers={"Accept": _ACCEPT}
        )
        if response.status != 200:
            raise self._session.refused(place, response, what=f"manifest {ref.target}")
        response.close()
        digest = ref.digest or _digest_header(response)
        size = response.size
        if digest is None or size is None:  # registries that say little in a HEAD must be asked for all
            return self._document(place, ref, None).content.descriptor
        return Descriptor(response.header("Content-Type").partition(";")[0].strip(), digest, size)

    def _config(self, place: Place, ref: Reference, descriptor: Descriptor, known: Known | None) -> bytes:
        if known is not None and (data := known(descriptor.digest)) is not None:
            return data
        if descriptor.media_type not in _CONFIGS:
            raise BadAnswer(
                f"{ref.familiar} is not a container image: its config is {descriptor.media_type}",
                cure="Name an image; this is another kind of artifact.",
            )
        url = place.url(f"blobs/{descriptor.digest}")
        response, data = self._get(place, url, "*/*", _CONFIG_LIMIT)
        if response.status != 200:
            raise self._session.refused(place, response, what=f"config blob {descriptor.digest}")
        got = _digest_of(data, descriptor.digest)
        if got != descriptor.digest or len(data) != descriptor.size:
            raise DigestMismatch(
                f"{place.registry} sent wrong data for the config of {ref.familiar}",
                got=f"{got} ({len(data)} bytes)",
                want=f"{descriptor.digest} ({descriptor.size} bytes)",
                url=url,
            )
        return data

    def _tags(self, place: Place, pages: int) -> tuple[str, ...]:
        found: list[str] = []
        url = place.url("tags/list?n=1000")
        for _ in range(pages):
            response, data = self._get(place, url, "application/json", MAX_DOCUMENT)
            if response.status != 200:
                raise self._session.refused(place, response, what=f"repository {place.repository}")
            link = next_link(response.header("Link"))
            try:
                names = json.loads(data).get("tags") or []
            except (ValueError, AttributeError, RecursionError):
                raise BadAnswer(f"GET {redact(url)}: the answer is no list of tags", url=url) from None
            found += [name for name in names if isinstance(name, str)]
            if not link:
                break
            url = urljoin(response.url, link)
        return tuple(found)

    def _get(self, place: Place, url: str, accept: str, limit: int) -> tuple[Response, bytes]:
        scopes, headers = pull_scope(place.repository), {"Accept": accept}
        return self._session.transport.whole(
            lambda: self._session.send(place, "GET", url, scopes, headers=headers), limit
        )

    def _missing(self, place: Place, ref: Reference, response: Response) -> RegistryError:
        """The error for a manifest that did not come: is repository or tag wrong, and what is near?"""
        what = f"manifest {ref.digest}" if ref.digest else f"tag {ref.tag!r} in {place.repository}"
        error = self._session.refused(place, response, what=what)
        if not isinstance(error, NotFound):
            return error
        import difflib

        try:
            near = difflib.get_close_matches(ref.tag, self._tags(place, 1), n=3) if ref.tag else []
        except NotFound:
            near = []
            error.message = error.message.replace(what, f"repository {place.repository}", 1)
        except RegistryError:
            near = []
        if near and not ref.digest:
            error.message += f"; did you mean {' or '.join(near)}?"
        error.args = (error.message,)
        error.cure = "Check the name; if the repository is private, log in with 'docker login'."
        return error


def _parse(ref: Reference, data: bytes, media_type: str) -> Manifest | Index:
    try:
        return parse_document(data, media_type if media_type in (*MANIFESTS, *INDEXES, *SCHEMA_1) else "")
    except InvalidManifest as error:
        cure = error.cure
        if data.lstrip().startswith(b"<"):  # a page of a proxy, say
            cure = f"Check that {ref.registry} is a registry and that no login page answers for it."
        raise BadAnswer(f"{ref.familiar}: {error.message}", cure=cure) from error


def _digest_header(response: Response) -> Digest | None:
    try:
        return Digest.parse(response.header("Docker-Content-Digest"))
    except InvalidDigest:
        return None


def _digest_of(data: bytes, like: Digest | None) -> Digest:
    algorithm = like.algorithm if like is not None else "sha256"
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def _check_platform(ref: Reference, config: bytes, platform: Platform) -> None:
    """The index did not say what this image is for; its config does."""
    try:
        document = json.loads(config)
        found = Platform(document["os"], document["architecture"], document.get("variant", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if found.normal() not in compatible(platform):
        raise NotFound(
            f"{ref.familiar} has no image for {platform}; it has {found}",
            cure="Choose one of these with --platform, or another base image.",
        )
