"""One output, whatever its kind: the way from built images and an `OutputSpec` to an `ExportResult`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.exporters.assemble import Assembly, assemble
from minibuild.exporters.exporter import ExportServices
from minibuild.exporters.image import BlobSource, ExportResult, Image
from minibuild.exporters.layout import write_layout
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.reference import Reference
from minibuild.values import replace

if TYPE_CHECKING:
    from minibuild.registry.client import Registry
    from minibuild.registry.progress import Progress


def export(
    images: Sequence[Image],
    spec: OutputSpec,
    *,
    blobs: BlobSource,
    store: Store,
    names: Sequence[Reference] = (),
    registry: Registry | None = None,
    stdout: BinaryIO | None = None,
    progress: Progress | None = None,
    assembly: Assembly | None = None,
) -> ExportResult:
    """Write `images` (one for each platform) as `spec` says.

    `names` count where the output has none of its own; `registry` is needed to push, `stdout` for
    ``dest=-``. ``type=image`` puts the documents into the store; keeping a name for them is the
    caller's affair. `assembly` is what `images` come to with OCI media types and the annotations of `spec`,
    where that is known. Raises `OutputError`, `UsageError`, `RegistryError`, `LayerError` and
    `StoreError`.
    """
    if spec.kind == "cacheonly":
        return ExportResult("cacheonly")
    if spec.kind in ("local", "tar"):
        return _files(images, spec, blobs, store, stdout)
    packed = [_compressed(image, spec, blobs, store) for image in images]
    if assembly is None or spec.media_types != "oci" or packed != [*images]:
        assembly = assemble(packed, media_types=spec.media_types, annotations=spec.annotations)
    names = spec.names or tuple(names)
    if spec.kind == "image":
        return _image(assembly, spec, names, blobs, store, registry, progress)
    if not spec.tar:
        return write_layout(assembly, Path(spec.dest), blobs=blobs, names=names, kind=spec.kind)
    if spec.kind == "docker":
        from minibuild.exporters.docker import write_docker_archive as write
    else:
        from minibuild.exporters.archive import write_archive as write
    return write(assembly, _destination(spec, stdout), blobs=blobs, names=names)


class BuiltIn:
    """The exporter for a `spec` of one of minibuild's own kinds.

    `assembly` is what its images come to with OCI media types and the build's annotations, where that is
    known already.
    """

    def __init__(self, spec: OutputSpec, assembly: Assembly | None = None) -> None:
        self._spec = spec
        self._assembly = assembly

    def export(self, images: Sequence[Image], services: ExportServices) -> ExportResult:
        spec = self._spec
        known = None if spec.annotations else self._assembly
        if spec.kind not in ("local", "tar"):
            spec = replace(spec, annotations=(*services.annotations, *spec.annotations))
        return export(
            images,
            spec,
            blobs=services.blobs,
            store=services.store,
            names=services.names,
            registry=services.registry() if spec.push and services.registry is not None else None,
            stdout=services.stdout if spec.dest == "-" else None,
            assembly=known,
        )


def _files(
    images: Sequence[Image], spec: OutputSpec, blobs: BlobSource, store: Store, stdout: BinaryIO | None
) -> ExportResult:
    # most outputs are images, which need nothing of what merges layers
    from minibuild.exporters.rootfs import write_folder, write_tar

    epoch = spec.source_date_epoch
    mtime_ns = None if epoch is None else epoch * 1_000_000_000
    split = spec.platform_split
    if spec.kind == "tar":
        dest = _destination(spec, stdout)
        return write_tar(images, dest, blobs=blobs, store=store, split=split, mtime_ns=mtime_ns)
    folder, delete = Path(spec.dest), spec.delete
    return write_folder(
        images, folder, blobs=blobs, store=store, split=split, delete=delete, mtime_ns=mtime_ns
    )


def _destination(spec: OutputSpec, stdout: BinaryIO | None) -> Path | BinaryIO:
    if spec.dest != "-":
        return Path(spec.dest)
    if stdout is None:
        raise UsageError(
            "this output goes to standard output, and there is none", cure="Name a file with dest=."
        )
    return stdout


def _compressed(image: Image, spec: OutputSpec, blobs: BlobSource, store: Store) -> Image:
    compression = spec.compression
    if compression is None and spec.force_compression:
        from minibuild.layers.compress import Compression

        compression = Compression.parse("gzip" if spec.kind == "docker" else "zstd")
    # Docker's media types, and older engines that load archives, know no zstd
    docker = spec.media_types == "docker" or (spec.kind == "docker" and compression is None)
    if compression is None and not docker:
        return image
    from minibuild.exporters.recompress import with_compression, without_zstd

    if compression is not None:
        image = with_compression(image, compression, force=spec.force_compression, blobs=blobs, store=store)
    return without_zstd(image, blobs=blobs, store=store) if docker else image


def _image(
    assembly: Assembly,
    spec: OutputSpec,
    names: Sequence[Reference],
    blobs: BlobSource,
    store: Store,
    registry: Registry | None,
    progress: Progress | None,
) -> ExportResult:
    if spec.store:
        for document in assembly.documents:
            store.blobs.put(document.data)
    if spec.push:
        from minibuild.exporters.push import push_image  # loads the HTTP client

        if registry is None:
            raise UsageError(
                "this output is pushed, and no registry may be reached", cure="Leave push=true out."
            )
        from minibuild.registry.errors import Refused

        try:
            push_image(
                assembly,
                names,
                blobs=blobs,
                registry=registry,
                by_digest=spec.push_by_digest,
                progress=progress,
            )
        except Refused as error:
            if error.status == 400:  # it compares what comes with its digest, which we need not do as well
                _check(assembly, store)
            raise
    return ExportResult("image", assembly.root, assembly.config, "", _all_names(assembly, spec, names))


def _check(assembly: Assembly, store: Store) -> None:
    """Raise `BlobDamaged` for a layer of this store whose bytes have changed; it is removed."""
    for layer in assembly.layers:
        if store.blobs.has(layer.digest):
            store.blobs.check(layer.digest, anew=True)


def _all_names(assembly: Assembly, spec: OutputSpec, names: Sequence[Reference]) -> tuple[Reference, ...]:
    """The names to keep the image under, those by digest that were asked for included."""
    digest = assembly.root.digest
    found = list(names)
    if spec.name_canonical:
        found += [replace(name, tag="", digest=digest) for name in names if name.digest is None]
    if spec.dangling_prefix and not (spec.dangling_only_unnamed and names):
        found.append(replace(Reference.parse(spec.dangling_prefix), tag="", digest=digest))
    return tuple(dict.fromkeys(found))
