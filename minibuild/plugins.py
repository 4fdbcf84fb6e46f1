"""What a package needs that adds a cache type, an output type or an executor.

Entry points name a factory each: in the group ``minibuild.cache_backends`` one that takes a `CacheSpec`
and `CacheServices` and makes a `CacheBackend`; in ``minibuild.exporters`` one that takes the output's options
and makes an `Exporter`; in ``minibuild.executors`` one that takes a `Sandbox` and makes an `Executor`.
`minibuild.testing` has the suites that each of them has to pass.
"""

from __future__ import annotations

from minibuild_store.blobs import Blobs
from minibuild_store.digest import Digest

from minibuild.cache.backend import Backend as CacheBackend
from minibuild.cache.backend import Progress, Saved, Upload
from minibuild.cache.backend import Services as CacheServices
from minibuild.cache.document import CacheDocument, CachedStep, read_document
from minibuild.cache.spec import CacheSpec
from minibuild.exporters.annotations import Annotation
from minibuild.exporters.assemble import Assembly, assemble
from minibuild.exporters.exporter import Exporter, ExportServices
from minibuild.exporters.image import BlobSource, ExportResult, Image, ImageLayer
from minibuild.exporters.rootfs import write_tar
from minibuild.exporters.target import output_file
from minibuild.oci.config import ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.image import Layer
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.executor import Executor
from minibuild.sandbox.spec import (
    ExitStatus,
    FolderMount,
    ProcessSpec,
    Rootfs,
    SecretFile,
    SnapshotMount,
    SocketMount,
    TmpfsMount,
)
from minibuild.values import replace

__all__ = [
    "Annotation",
    "Assembly",
    "BlobSource",
    "Blobs",
    "CacheBackend",
    "CacheDocument",
    "CacheServices",
    "CacheSpec",
    "CachedStep",
    "Descriptor",
    "Digest",
    "Executor",
    "ExitStatus",
    "ExportResult",
    "ExportServices",
    "Exporter",
    "FolderMount",
    "Image",
    "ImageConfig",
    "ImageLayer",
    "Layer",
    "Platform",
    "ProcessSpec",
    "Progress",
    "Reference",
    "Rootfs",
    "Sandbox",
    "Saved",
    "SecretFile",
    "SnapshotMount",
    "SocketMount",
    "TmpfsMount",
    "Upload",
    "assemble",
    "output_file",
    "read_document",
    "replace",
    "write_tar",
]
