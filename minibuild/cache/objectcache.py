"""A shared cache in an object store (S3, Google Cloud Storage, Azure Blob), through the extra ``objects``.

Below the prefix: ``manifests/NAME`` for each name, ``blobs/sha256/<hex>`` for records and layers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Progress, Saved, Services, Upload
from minibuild.cache.document import CacheDocument, InvalidCache, cache_manifest, read_document, read_manifest
from minibuild.cache.spec import CacheSpec, seconds
from minibuild.errors import MinibuildError, UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.registry.parallel import Job, run_all, stop_if

_PARALLEL = 4
_NAME = "buildkit"  # buildx's defaults for name=, touch_refresh= and retry_max_attempts=
_REFRESH = "24h"
_ATTEMPTS = 3
_COPIED = 5 << 30  # S3 copies nothing larger in one request


class ObjectStoreError(MinibuildError):
    """An object store refused, failed or could not be reached."""


def open_cache(spec: CacheSpec, services: Services) -> ObjectCache:
    options = spec.options
    names = tuple(name for name in options.get("name", _NAME).split(";") if name)
    parallel = int(options.get("upload_parallelism") or _PARALLEL)
    refresh = seconds(options.get("touch_refresh") or _REFRESH) if spec.kind == "s3" else None
    return ObjectCache(
        _store(spec),
        options.get("prefix", ""),
        names,
        manifests=options.get("manifests_prefix", "manifests/"),
        blobs=options.get("blobs_prefix", "blobs/"),
        parallel=parallel,
        refresh=refresh,
    )


def _store(spec: CacheSpec) -> Any:
    """The obstore client that `spec` describes; credentials not given come from the environment."""
    try:
        stores: Any = import_module("obstore.store")
    except ImportError:
        raise UsageError(
            f"type={spec.kind} needs obstore, which is not installed",
            cure="Install it with: pip install 'minibuild[objects]'.",
        ) from None
    options = spec.options
    client: dict[str, Any] = {"timeout": f"{max(spec.timeout, 1):.0f}s"}
    retry = {"max_retries": int(options.get("retry_max_attempts") or _ATTEMPTS) - 1}
    try:
        if spec.kind == "s3":
            endpoint = options.get("endpoint_url", "")
            client["allow_http"] = endpoint.startswith("http://")
            config = _given(
                region=options.get("region"),
                endpoint=endpoint,
                access_key_id=options.get("access_key_id"),
                secret_access_key=options.get("secret_access_key"),
                session_token=options.get("session_token"),
            )
            virtual = options.get("use_path_style", "").lower() in ("0", "false") or not endpoint
            config["virtual_hosted_style_request"] = virtual
            return stores.S3Store(
                options["bucket"],
                config=config,
                client_options=client,
                retry_config=retry,
            )
        if spec.kind == "gcs":
            endpoint = options.get("endpoint_url", "")
            client["allow_http"] = endpoint.startswith("http://")
            given = _given(service_account=options.get("service_account"))
            if endpoint:
                given = {"service_account_key": _account_at(endpoint, options.get("service_account"))}
            return stores.GCSStore(
                options["bucket"],
                config=given,
                client_options=client,
                retry_config=retry,
            )
        account = options.get("account_url", "")
        client["allow_http"] = account.startswith("http://")
        given = _given(
            account_name=options.get("account_name") or _account(account),
            account_key=options.get("secret_access_key"),
            endpoint=account,
        )
        return stores.AzureStore(
            options.get("container"),
            config=given,
            client_options=client,
            retry_config=retry,
        )
    except Exception as error:  # obstore's own family has no common base before 0.5
        raise UsageError(f"{spec.shown}: {error}", cure="Check the options of the cache.") from None


def _account_at(endpoint: str, file: str | None) -> str:
    """A service account that is asked for at `endpoint`; without a `file` nobody has to sign in there."""
    import json

    nobody = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    account = nobody if file is None else json.loads(Path(file).read_bytes())
    return json.dumps({**account, "gcs_base_url": endpoint})


def _given(**options: str | None) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _account(url: str) -> str:
    return url.partition("://")[2].partition(".")[0]


class ObjectCache:
    """The cache called `names[0]` below `prefix`; a save writes it under every name.

    A blob that is there and is older than `refresh` seconds is made new by a copy, so that a bucket may
    expire what no build writes any more.
    """

    reference = None

    def __init__(
        self,
        store: Any,
        prefix: str,
        names: Sequence[str],
        *,
        manifests: str,
        blobs: str,
        parallel: int,
        refresh: float | None = None,
    ) -> None:
        self._store = store
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self._names = names
        self._manifests = manifests
        self._blobs = blobs
        self._parallel = parallel
        self._refresh = refresh

    def load(self) -> CacheDocument | None:
        for name in self._names:
            data = self._get(f"{self._prefix}{self._manifests}{name}")
            if data is not None:
                found = read_manifest(data)
                if found.document is not None:
                    return found.document
                assert found.blob is not None
                document = self._get(self._blob(found.blob.digest))
                if document is None or Digest.of(document) != found.blob.digest:
                    raise InvalidCache("its records are missing or damaged")
                return read_document(document)
        return None

    def _blob(self, digest: Digest) -> str:
        return f"{self._prefix}{self._blobs}{digest.algorithm}/{digest.hex}"

    def _get(self, path: str) -> bytes | None:
        obstore: Any = import_module("obstore")
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _failed(error) from None

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        obstore: Any = import_module("obstore")
        try:
            answer = obstore.get(self._store, self._blob(descriptor.digest))
            chunks = iter(answer.stream())
        except Exception as error:
            raise _failed(error) from None
        done = 0
        with blobs.writer() as writer:
            while (chunk := _next(chunks)) is not None:
                done += len(chunk)
                if done > descriptor.size:
                    raise InvalidCache(f"its blob {descriptor.digest} is longer than {descriptor.size} bytes")
                writer.write(chunk)
                progress(descriptor, done)
            writer.commit(expect=descriptor.digest, size=descriptor.size)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        missing: list[Upload] = []

        def look(upload: Upload) -> Job:
            return lambda stop: self._look(upload, missing)

        def send(upload: Upload) -> Job:
            return lambda stop: self._send(upload, stop, progress)

        run_all([look(upload) for upload in uploads], self._parallel)
        run_all([send(upload) for upload in missing], self._parallel)
        data = document.dump()
        manifest = cache_manifest(data, [upload.descriptor for upload in uploads])
        self._put(self._blob(Digest.of(data)), data)
        for name in self._names:
            self._put(f"{self._prefix}{self._manifests}{name}", manifest)
        return Saved(len(missing), len(uploads) - len(missing))

    def _look(self, upload: Upload, missing: list[Upload]) -> None:
        obstore: Any = import_module("obstore")
        try:
            meta: Mapping[str, Any] = obstore.head(self._store, self._blob(upload.descriptor.digest))
            if meta["size"] == upload.descriptor.size and not self._is_old(meta):
                return
            if meta["size"] == upload.descriptor.size <= _COPIED:
                self._touch(self._blob(upload.descriptor.digest))
                return
        except FileNotFoundError:
            pass
        except Exception as error:
            raise _failed(error) from None
        missing.append(upload)

    def _is_old(self, meta: Mapping[str, Any]) -> bool:
        return self._refresh is not None and time.time() - meta["last_modified"].timestamp() > self._refresh

    def _touch(self, path: str) -> None:
        """Give the blob a new time. By way of another name: S3 copies no object to itself."""
        obstore: Any = import_module("obstore")
        other = f"{path}.touched"
        obstore.copy(self._store, path, other)
        obstore.copy(self._store, other, path)
        obstore.delete(self._store, other)

    def _send(self, upload: Upload, stop: threading.Event, progress: Progress) -> None:
        stop_if(stop)
        with upload.opener() as source:
            self._put(self._blob(upload.descriptor.digest), source)
        progress(upload.descriptor, upload.descriptor.size)

    def _put(self, path: str, content: Any) -> None:
        obstore: Any = import_module("obstore")
        try:
            obstore.put(self._store, path, content)
        except Exception as error:
            raise _failed(error) from None

    def close(self) -> None:
        pass


def _next(chunks: Any) -> bytes | None:
    try:
        return bytes(next(chunks))
    except StopIteration:
        return None
    except Exception as error:
        raise _failed(error) from None


def _failed(error: Exception) -> ObjectStoreError:
    line = str(error).strip().split("\n")[0]
    return ObjectStoreError(
        line or type(error).__name__, cure="Check the address, the bucket and the credentials."
    )
