"""A pointer to content: media type, digest, size (image-spec, descriptor.md)."""

from __future__ import annotations

from minibuild_store.digest import Digest

from minibuild.oci.platform import Platform
from minibuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`size` is in bytes; `annotations` are key-value pairs sorted by key."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        return document
