"""From a solved target to its outputs, and to a name in this store."""

from __future__ import annotations

import sys
from pathlib import Path

from minibuild_store.digest import Digest

from minibuild.engine.filesystem import Filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.session import Session
from minibuild.errors import OutputError
from minibuild.exporters.assemble import assemble
from minibuild.exporters.export import export
from minibuild.exporters.image import ExportResult, Image, ImageLayer
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.config import ImageConfig
from minibuild.oci.image import ResolvedImage


def export_all(
    session: Session, config: ImageConfig, filesystem: Filesystem
) -> tuple[Digest, Digest, tuple[ExportResult, ...]]:
    """Write every output asked for and keep the image under its tags.

    Returns the manifest's digest, the configuration's digest and what was written.
    """
    image = Image(
        config,
        tuple(
            ImageLayer(
                layer.diff_id, layer.descriptor, base=session.layers.origin(layer.descriptor) is not None
            )
            for layer in filesystem.layers
        ),
    )
    assembly = assemble([image])
    for document in assembly.documents:
        session.store.blobs.put(document.data)
    assert assembly.config is not None
    manifest = assembly.manifests[0]
    _keep_names(
        session, ResolvedImage("", manifest.digest, config, manifest.layers), filesystem, assembly.config
    )
    results = tuple(_export(session, image, spec) for spec in session.request.outputs)
    return manifest.digest, assembly.config, results


def _keep_names(session: Session, image: ResolvedImage, filesystem: Filesystem, config: Digest) -> None:
    origins = [session.layers.origin(layer.descriptor) for layer in filesystem.layers]
    origin = next((found for found in origins if found is not None), None)
    images = LocalImages(session.store)
    for tag in session.request.tags:
        images.tag(tag, ResolvedImage(str(tag), image.digest, image.config, image.layers, origin), config)


def _export(session: Session, image: Image, spec: OutputSpec) -> ExportResult:
    where = f" to {spec.dest}" if spec.dest and spec.dest != "-" else ""
    what = "pushing image" if spec.kind == "image" and spec.push else f"exporting {spec.kind}{where}"
    registry = session.registry() if spec.push else None
    with session.step(what):
        return export(
            [image],
            spec,
            blobs=session.layers,
            store=session.store,
            names=session.request.tags,
            registry=registry,
            stdout=sys.stdout.buffer if spec.dest == "-" else None,
        )


def check_outputs(outputs: tuple[OutputSpec, ...]) -> None:
    """Refuse outputs that cannot be written, before anything is built; raises `OutputError`."""
    for spec in outputs:
        if not spec.dest or spec.dest == "-":
            continue
        parent = Path(spec.dest).absolute().parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir():
            raise OutputError(
                f"cannot write {spec.dest}: {parent} is not a folder", cure="Name another dest=."
            )
