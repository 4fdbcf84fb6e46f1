"""From images to the documents of an image: configuration, manifest, and an index where there are several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from minibuild_store.digest import Digest

from minibuild.errors import LayerError, UsageError
from minibuild.exporters.image import Image, ImageLayer
from minibuild.oci import mediatype
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Index, Manifest, normal
from minibuild.values import NamedTuple, replace

if TYPE_CHECKING:
    from minibuild.exporters.annotations import Annotation
    from minibuild.oci.platform import Platform

MediaTypes = Literal["oci", "docker"]

CREATED = "org.opencontainers.image.created"

_FOREIGN = {  # layers that their maker forbids to pass on; kept as such only where asked
    "application/vnd.oci.image.layer.nondistributable.v1.tar": mediatype.OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": mediatype.OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": mediatype.OCI_LAYER_ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": mediatype.OCI_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": mediatype.OCI_LAYER_GZIP,
}
_TO_OCI = {
    mediatype.DOCKER_LAYER: mediatype.OCI_LAYER,
    mediatype.DOCKER_LAYER_GZIP: mediatype.OCI_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": mediatype.OCI_LAYER_ZSTD,
    **_FOREIGN,
}
_TO_DOCKER = {
    mediatype.OCI_LAYER: mediatype.DOCKER_LAYER,
    mediatype.OCI_LAYER_GZIP: mediatype.DOCKER_LAYER_GZIP,
}
_ANY_DIGIT = str.maketrans("123456789", "000000000")


class Document(NamedTuple):
    """A small blob made here, and what points to it."""

    descriptor: Descriptor
    data: bytes


class Assembly(NamedTuple):
    """Everything that has to be written for an image.

    `root` is the manifest or index that names it, with the annotations of its descriptor;
    `documents` are in writing order, children before parents, the root last; `layers` are the
    layer blobs without repeats, as `BlobSource` knows them; `manifests` are in the order
    of the images.
    """

    root: Descriptor
    documents: tuple[Document, ...]
    layers: tuple[Descriptor, ...]
    manifests: tuple[Manifest, ...]

    @property
    def config(self) -> Digest | None:
        """The configuration's digest; None where there are several."""
        return self.manifests[0].config.digest if len(self.manifests) == 1 else None


def build_manifest(
    image: Image,
    *,
    media_types: MediaTypes = "oci",
    annotations: Mapping[str, str] | Sequence[tuple[str, str]] = (),
) -> tuple[Manifest, bytes]:
    """The manifest of `image` and the bytes of its configuration.

    Layers take the media type of the family asked for. Raises `UsageError` for a zstd layer in a
    Docker manifest, which has no name for it, and `LayerError` where the configuration does not
    list exactly these layers.
    """
    if tuple(layer.diff_id for layer in image.layers) != image.config.diff_ids:
        raise LayerError(
            f"the image configuration lists {len(image.config.diff_ids)} diff IDs"
            f" that are not those of its {len(image.layers)} layers"
        )
    config = image.config.to_bytes()
    docker = media_types == "docker"
    config_type = mediatype.DOCKER_CONFIG if docker else mediatype.OCI_CONFIG
    manifest = Manifest.of(
        Descriptor(config_type, Digest.of(config), len(config)),
        [_layer(layer, docker) for layer in image.layers],
        media_type=mediatype.DOCKER_MANIFEST if docker else mediatype.OCI_MANIFEST,
        annotations=dict(annotations),
    )
    return manifest, config


def oci_layer_type(media_type: str) -> str:
    """The OCI name of a layer's media type, whoever named it."""
    return _TO_OCI.get(media_type, media_type)


def _layer(layer: ImageLayer, docker: bool) -> Descriptor:
    held = layer.descriptor
    media_type = oci_layer_type(held.media_type)
    if not docker:
        kept = tuple(pair for pair in held.annotations if not _is_internal(pair[0]))
        return Descriptor(media_type, held.digest, held.size, annotations=kept)
    try:
        return Descriptor(_TO_DOCKER[media_type], held.digest, held.size)
    except KeyError:
        raise UsageError(
            f"layer {held.digest.short} is {held.media_type}, which Docker media types have no name for",
            cure="Use compression=gzip, or oci-mediatypes=true.",
        ) from None


def _is_internal(key: str) -> bool:
    # where a blob lies and what it unpacks to is the business of the tool that fetched it
    return key in ("containerd.io/uncompressed", "buildkit/createdat") or key.startswith(
        "containerd.io/distribution.source."
    )


def assemble(
    images: Sequence[Image],
    *,
    media_types: MediaTypes = "oci",
    annotations: Sequence[Annotation] = (),
) -> Assembly:
    """The documents for one image, or for an index of several (one for each platform).

    The root descriptor carries ``org.opencontainers.image.created``, to the second, from the newest
    configuration: BuildKit writes the clock there, which would make equal images differ.
    """
    if not images:
        raise UsageError("there is no image to export")
    _check(images, media_types, annotations)
    documents: list[Document] = []
    manifests: list[Manifest] = []
    entries: list[Descriptor] = []
    for image in images:
        platform = normal(image.config.platform)
        manifest, config = build_manifest(
            image, media_types=media_types, annotations=_chosen(annotations, "manifest", platform)
        )
        on_descriptor = _chosen(annotations, "manifest-descriptor", platform)
        entry = replace(
            manifest.descriptor,
            platform=image.config.platform,
            annotations=tuple(sorted(on_descriptor.items())),
        )
        documents += [Document(manifest.config, config), Document(manifest.descriptor, manifest.to_bytes())]
        manifests.append(manifest)
        entries.append(entry)
    root = entries[0]
    if len(images) > 1:
        index = Index.of(
            entries,
            media_type=mediatype.DOCKER_INDEX if media_types == "docker" else mediatype.OCI_INDEX,
            annotations=_chosen(annotations, "index"),
        )
        documents.append(Document(index.descriptor, index.to_bytes()))
        on_index = _chosen(annotations, "index-descriptor")
        root = replace(index.descriptor, annotations=tuple(sorted(on_index.items())))
    layers = {layer.descriptor.digest: layer.descriptor for image in images for layer in image.layers}
    return Assembly(_with_created(root, images), tuple(documents), tuple(layers.values()), tuple(manifests))


def _check(images: Sequence[Image], media_types: MediaTypes, annotations: Sequence[Annotation]) -> None:
    levels: set[str] = {one.level for one in annotations}
    if media_types == "docker" and levels - {"manifest"}:
        raise UsageError(
            "Docker media types have annotations on manifests only",
            cure="Leave oci-mediatypes=false out.",
        )
    if len(images) == 1:
        check_without_index(annotations)
    platforms = [normal(image.config.platform) for image in images]
    for one in annotations:
        if one.platform is not None and one.platform not in platforms:
            raise UsageError(
                f"annotation {one.key} is for {one.platform}, which is not built",
                cure=f"Built: {', '.join(map(str, platforms))}.",
            )


def check_without_index(annotations: Iterable[Annotation]) -> None:
    """Refuse annotations of an index for an image that has none. Raises `UsageError`."""
    if {one.level.value for one in annotations} & {"index", "index-descriptor"}:
        raise UsageError(
            "an image for one platform has no index to annotate",
            cure="Use annotation-manifest or annotation-manifest-descriptor, or build for several platforms.",
        )


def _chosen(
    annotations: Sequence[Annotation], level: str, platform: Platform | None = None
) -> Mapping[str, str]:
    if not annotations:  # nearly always
        return {}
    from minibuild.exporters.annotations import Level, select

    return select(annotations, Level(level), platform)


def _with_created(root: Descriptor, images: Sequence[Image]) -> Descriptor:
    pairs = dict(root.annotations)
    times = [seconds for image in images if (seconds := whole_seconds(image.config.created))]
    if CREATED not in pairs and times:
        pairs[CREATED] = max(times)
    return replace(root, annotations=tuple(sorted(pairs.items())))


def whole_seconds(created: str) -> str:
    """An RFC 3339 time in UTC without its fraction, as BuildKit writes it; empty if it is no such time."""
    seconds, point, fraction = created.removesuffix("Z").partition(".")
    sound = created.endswith("Z") and (not point or fraction.isdecimal())
    if sound and seconds.translate(_ANY_DIGIT) == "0000-00-00T00:00:00":
        return seconds + "Z"
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is None:  # a time without a zone is no RFC 3339 time
            return ""
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
