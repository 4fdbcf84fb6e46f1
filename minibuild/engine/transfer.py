"""Images from this store to elsewhere, and from registries: pull, push, save."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import BinaryIO

from minibuild_store.store import Store

from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import image_filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.errors import UsageError
from minibuild.events import EventSink, silent
from minibuild.exporters.export import export
from minibuild.exporters.image import ExportResult, Image, ImageLayer
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.image import ResolvedImage
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.options import RegistryOptions
from minibuild.values import replace


def pull(
    store: Store,
    name: Reference,
    *,
    platform: Platform | None = None,
    options: RegistryOptions | None = None,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> ResolvedImage:
    """Fetch `name` with all its layers, and let the name stand for it here; stops once `cancel` is set."""
    request = BuildRequest(context=None, pull="always", registry=options or RegistryOptions())
    with Session(store, request, sink, cancel) as session:
        image = ImageBases(session).image(str(name), platform or Platform.of_host())
        with session.step(f"pulling {name.familiar}"):
            if image.origin is not None:
                session.registry().fetch_blobs(image.origin, image.layers, store.blobs, session.pulled)
    images = LocalImages(store)
    images.tag(
        replace(name, digest=None) if name.tag else name, image, store.blobs.put(_config(store, image)).digest
    )
    return image


def _config(store: Store, image: ResolvedImage) -> bytes:
    from minibuild.oci.manifest import Manifest

    manifest = Manifest.parse(store.blobs.get(image.digest))
    return store.blobs.get(manifest.config.digest)


def push(
    store: Store,
    name: Reference,
    *,
    options: RegistryOptions | None = None,
    spec: OutputSpec | None = None,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> ExportResult:
    """Push the image called `name` under that name; stops once `cancel` is set."""
    return _export(store, [name], spec or OutputSpec("image", push=True), options, sink, cancel, None)


def save(
    store: Store,
    names: Sequence[Reference],
    spec: OutputSpec,
    *,
    options: RegistryOptions | None = None,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
    stdout: BinaryIO | None = None,
) -> ExportResult:
    """Write the image called ``names[0]`` as `spec` says, under all `names`; stops once `cancel` is set."""
    return _export(store, names, spec, options, sink, cancel, stdout)


def _export(
    store: Store,
    names: Sequence[Reference],
    spec: OutputSpec,
    options: RegistryOptions | None,
    sink: EventSink,
    cancel: threading.Event | None,
    stdout: BinaryIO | None,
) -> ExportResult:
    images = LocalImages(store)
    found = images.get(names[0])
    for name in names[1:]:
        other = images.get(name)
        if other.digest != found.digest:
            raise UsageError(
                f"{names[0].familiar} and {name.familiar} are different images", cure="Save them one by one."
            )
    request = BuildRequest(context=None, registry=options or RegistryOptions())
    with Session(store, request, sink, cancel) as session:
        session.layers.know(found)
        layers = tuple(
            ImageLayer(layer.diff_id, layer.descriptor, base=not store.blobs.has(layer.descriptor.digest))
            for layer in image_filesystem(found).layers
        )
        what = f"pushing {names[0].familiar}" if spec.push else f"saving {names[0].familiar}"
        with session.step(what):
            return export(
                [Image(found.config, layers)],
                spec,
                blobs=session.layers,
                store=store,
                names=names,
                registry=session.registry() if spec.push else None,
                stdout=stdout,
                progress=session.pulled,
            )
