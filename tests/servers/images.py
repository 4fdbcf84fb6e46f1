"""Small images, the same every time, whose layers are bytes and not tars: registries do not look inside."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from minibuild_store.digest import Digest

from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Manifest
from minibuild.oci.mediatype import OCI_CONFIG, OCI_LAYER
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.push import PushBlob

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


@dataclass(frozen=True)
class SmallImage:
    manifest: Manifest
    content: dict[Digest, bytes]

    @property
    def layers(self) -> tuple[bytes, ...]:
        return tuple(self.content[layer.digest] for layer in self.manifest.layers)

    def push_blobs(self, *, mount_from: Reference | None = None, lazy: bool = False) -> list[PushBlob]:
        """Its blobs for `Registry.push`; `lazy` layers are not at hand."""
        config, layers = self.manifest.config, self.manifest.layers
        return [
            PushBlob(config, lambda: io.BytesIO(self.content[config.digest])),
            *(
                PushBlob(
                    one, None if lazy else lambda one=one: io.BytesIO(self.content[one.digest]), mount_from
                )
                for one in layers
            ),
        ]


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes that depend on `seed` alone and do not repeat."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def small_image(
    seed: int = 0, *, layers: Sequence[int] = (2000, 50_000), platform: Platform = AMD64
) -> SmallImage:
    """An image with layers of the given sizes in bytes."""
    return image_of([noise(size, seed * 100 + number) for number, size in enumerate(layers)], platform)


def image_of(blobs: Sequence[bytes], platform: Platform = AMD64) -> SmallImage:
    """An image of these layers, lowest first, which are not compressed."""
    config = json.dumps(
        {**platform.to_json(), "rootfs": {"type": "layers", "diff_ids": [Digest.of(b) for b in blobs]}}
    )
    content = {Digest.of(blob): blob for blob in (config.encode(), *blobs)}
    manifest = Manifest.of(
        _descriptor(OCI_CONFIG, config.encode()), [_descriptor(OCI_LAYER, blob) for blob in blobs]
    )
    return SmallImage(manifest, content)


def _descriptor(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))
