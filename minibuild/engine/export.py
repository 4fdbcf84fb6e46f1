"""From a solved target to its outputs, and to a name in this store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from minibuild_store.digest import Digest

from minibuild.engine.filesystem import Filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.session import Session
from minibuild.exporters.assemble import Assembly, assemble
from minibuild.exporters.export import BuiltIn
from minibuild.exporters.exporter import ExportServices
from minibuild.exporters.image import ExportResult, Image, ImageLayer
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.config import ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.oci.reference import Reference
from minibuild.values import replace

if TYPE_CHECKING:
    from minibuild.registry.client import Registry


def export_all(
    session: Session, config: ImageConfig, filesystem: Filesystem, outputs: Sequence[OutputSpec]
) -> tuple[Digest, Digest, tuple[ExportResult, ...]]:
    """Write every output asked for and keep the image under its tags.

    Returns the manifest's digest, the configuration's digest and what was written.
    """
    named = [name for spec in session.request.outputs if spec.kind == "image" for name in spec.names]
    tags = dict.fromkeys([*session.request.tags, *named])
    image, assembly = keep(session, config, filesystem, list(tags))
    results = tuple(_export(session, image, assembly, spec) for spec in outputs)
    assert assembly.config is not None
    return assembly.manifests[0].digest, assembly.config, results


def keep(
    session: Session, config: ImageConfig, filesystem: Filesystem, tags: Sequence[Reference]
) -> tuple[Image, Assembly]:
    """Put the image's documents into the store and let `tags` stand for it; returns it with them."""
    image = Image(
        config,
        tuple(
            ImageLayer(layer.diff_id, layer.descriptor, base=session.layers.of_base(layer.descriptor))
            for layer in filesystem.layers
        ),
    )
    assembly = assemble([image], annotations=session.request.annotations)
    for document in assembly.documents:
        session.store.blobs.put(document.data)
    assert assembly.config is not None
    manifest = assembly.manifests[0]
    resolved = ResolvedImage("", manifest.digest, config, manifest.layers)
    _keep_names(session, resolved, filesystem, assembly.config, tags)
    return image, assembly


def _keep_names(
    session: Session,
    image: ResolvedImage,
    filesystem: Filesystem,
    config: Digest,
    tags: Sequence[Reference],
) -> None:
    base = [layer.descriptor for layer in filesystem.layers if session.layers.of_base(layer.descriptor)]
    origins = {session.layers.origin(descriptor) for descriptor in base}
    origin = origins.pop() if len(origins) == 1 else None
    images = LocalImages(session.store)
    if origins and tags:
        session.layers.note_origins(filesystem)
    if session.shared is not None and tags:
        session.layers.settle(filesystem)
    for tag in tags:
        images.tag(tag, ResolvedImage(str(tag), image.digest, image.config, image.layers, origin), config)


def _export(session: Session, image: Image, assembly: Assembly, spec: OutputSpec) -> ExportResult:
    where = f" to {spec.dest}" if spec.dest and spec.dest != "-" else ""
    what = "pushing image" if spec.kind == "image" and spec.push else f"exporting {spec.kind}{where}"
    with session.step(what), ExitStack() as stack:
        services = ExportServices(
            session.store,
            session.layers,
            session.request.tags,
            session.request.annotations,
            getattr(sys.stdout, "buffer", None),
            lambda: _registry(session, stack, spec),
        )
        result = (spec.exporter or BuiltIn(spec, assembly)).export([image], services)
    if spec.kind == "oci" and not spec.tar:
        session.layers.note_links(layer.descriptor for layer in image.layers)
    if result.left_out:
        more = f" and {len(result.left_out) - 1} more" if len(result.left_out) > 1 else ""
        session.notice(
            "warning", f"left out, as only root can make devices: {result.left_out[0]}{more}{where}"
        )
    return result


def _registry(session: Session, stack: ExitStack, spec: OutputSpec) -> Registry:
    """The registries to push to; with ``registry.insecure`` those of the image's names by plain http."""
    if not spec.insecure:
        return session.registry()
    from minibuild.registry.client import Registry

    options = session.request.registry
    hosts = dict(options.hosts)
    for name in spec.names or session.request.tags:
        hosts[name.registry] = replace(options.host(name.registry), insecure=True)
    return stack.enter_context(Registry(replace(options, hosts=hosts)))
