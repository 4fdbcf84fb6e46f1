"""A shared cache in a folder, as an OCI image layout: for an artifact of a CI run, or a shared disk."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Progress, Saved, Services, Upload
from minibuild.cache.document import (
    CONFIG_TYPE,
    CacheDocument,
    InvalidCache,
    cache_manifest,
    read_document,
    read_manifest,
)
from minibuild.cache.spec import CacheSpec
from minibuild.errors import OutputError
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.mediatype import OCI_MANIFEST
from minibuild.registry.parallel import Job, run_all, stop_if

_REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20
_COPIES = 4


def open_cache(spec: CacheSpec, services: Services) -> LocalCache:
    folder = Path(spec.options.get("dest") or spec.options["src"])
    digest = Digest.parse(spec.options["digest"]) if spec.options.get("digest") else None
    reset = spec.options.get("reset", "").lower() in ("1", "true")
    return LocalCache(folder, spec.options.get("tag") or "latest", digest, reset=reset)


class LocalCache:
    """The cache tagged `tag` (or with the manifest `digest`) in the layout at `folder`."""

    reference = None

    def __init__(self, folder: Path, tag: str, digest: Digest | None = None, *, reset: bool = False) -> None:
        self._folder = folder
        self._tag = tag
        self._digest = digest
        self._reset = reset

    def load(self) -> CacheDocument | None:
        try:
            digest = self._digest or self._named()
        except FileNotFoundError:
            return None
        if digest is None:
            return None
        found = read_manifest(self._read(digest))
        if found.document is not None:
            return found.document
        assert found.blob is not None
        return read_document(self._read(found.blob.digest))

    def _named(self) -> Digest | None:
        try:
            entries = json.loads((self._folder / "index.json").read_bytes())["manifests"]
            names = {(one.get("annotations") or {}).get(_REF_NAME): one["digest"] for one in entries}
            return Digest.parse(names[self._tag]) if self._tag in names else None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidCache(f"{self._folder}/index.json is damaged") from None

    def _read(self, digest: Digest) -> bytes:
        try:
            data = self._path(digest).read_bytes()
        except OSError as error:
            raise InvalidCache(f"it lacks {digest}: {error.strerror}") from None
        if Digest.of(data) != digest:
            raise InvalidCache(f"its blob {digest} is damaged")
        return data

    def _path(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.hex

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        try:
            with self._path(descriptor.digest).open("rb") as file, blobs.writer() as writer:
                while chunk := file.read(_CHUNK):
                    writer.write(chunk)
                writer.commit(expect=descriptor.digest, size=descriptor.size)
        except OSError as error:
            raise InvalidCache(f"it lacks {descriptor.digest}: {error.strerror}") from None
        progress(descriptor, descriptor.size)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        try:
            if self._reset:
                shutil.rmtree(self._folder, ignore_errors=True)
            (self._folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            return self._save(document, uploads, progress)
        except OSError as error:
            raise OutputError(
                f"cannot write the cache at {self._folder}: {error.strerror}", cure="Name another dest=."
            ) from None

    def _save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        missing = [upload for upload in uploads if not self._has(upload.descriptor)]

        def copy(upload: Upload) -> Job:
            return lambda stop: self._copy(upload, stop, progress)

        run_all([copy(upload) for upload in missing], _COPIES)
        data = document.dump()
        manifest = cache_manifest(data, [upload.descriptor for upload in uploads])
        for content in (data, manifest):
            self._write(self._path(Digest.of(content)), content)
        self._write(self._folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self._write(self._folder / "index.json", self._index(manifest))
        return Saved(len(missing), len(uploads) - len(missing))

    def _has(self, descriptor: Descriptor) -> bool:
        try:
            return self._path(descriptor.digest).stat().st_size == descriptor.size
        except FileNotFoundError:
            return False

    def _copy(self, upload: Upload, stop: threading.Event, progress: Progress) -> None:
        stop_if(stop)
        temporary = self._temporary(self._path(upload.descriptor.digest))
        try:
            with upload.opener() as source, temporary.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    stop_if(stop)
                    target.write(chunk)
            temporary.rename(self._path(upload.descriptor.digest))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        progress(upload.descriptor, upload.descriptor.size)

    def _index(self, manifest: bytes) -> bytes:
        """The index with this cache's entry put in place of one of the same name."""
        try:
            entries = json.loads((self._folder / "index.json").read_bytes())["manifests"]
        except (OSError, ValueError, KeyError, TypeError):
            entries = []
        entry = {
            "mediaType": OCI_MANIFEST,
            "artifactType": CONFIG_TYPE,
            "digest": Digest.of(manifest),
            "size": len(manifest),
            "annotations": {_REF_NAME: self._tag},
        }
        kept = [one for one in entries if (one.get("annotations") or {}).get(_REF_NAME) != self._tag]
        return json.dumps({"schemaVersion": 2, "manifests": [*kept, entry]}, indent=2).encode()

    def _write(self, path: Path, data: bytes) -> None:
        temporary = self._temporary(path)
        temporary.write_bytes(data)
        temporary.rename(path)

    def _temporary(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.urandom(4).hex()}")

    def close(self) -> None:
        pass
