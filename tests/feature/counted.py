"""Images at a registry that counts what of them is asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from minibuild_store.digest import Digest

from minibuild.layers.entry import Entry, Kind
from minibuild.layers.whiteout import opaque, whiteout
from tests.feature.project import Done, Image, Project
from tests.layers.stacks import archive
from tests.servers.faults import change
from tests.servers.images import image_of
from tests.servers.registry import FakeRegistry


def folder(path: bytes, mode: int = 0o755) -> tuple[Entry, bytes]:
    return Entry(path, Kind.DIR, mode), b""


def file(path: bytes, data: bytes) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, 0o644, size=len(data)), data


def link(path: bytes, target: bytes) -> tuple[Entry, bytes]:
    return Entry(path, Kind.SYMLINK, 0o777, link=target), b""


LAYERS = [
    archive(layer)
    for layer in (
        [
            folder(b"bin"),
            file(b"bin/sh", b"sh" * 9000),
            folder(b"etc"),
            file(b"etc/passwd", b"app:x:7:8::/:/bin/sh\n"),
            folder(b"old"),
            file(b"old/below", b"below"),
            file(b"gone", b"gone"),
        ],
        [folder(b"opt", 0o750), file(b"opt/app", b"app" * 5000), link(b"app", b"opt/app")],
        [folder(b"usr"), folder(b"usr/lib"), file(b"usr/lib/so", b"so" * 7000)],
        [(whiteout(b"gone"), b""), folder(b"old"), (opaque(b"old"), b""), file(b"old/new", b"new")],
        [file(b"last", b"last" * 3000), folder(b"srv")],
    )
]


class Counted:
    """An image at a registry that counts; of its five layers 4 is the topmost."""

    def __init__(self, project: Project, registry: FakeRegistry, layers: Sequence[bytes] = LAYERS) -> None:
        self.project = project
        self.registry = registry
        self.name = f"{registry.host}/team/base:1"
        self._image = image_of(layers)
        registry.add("team/base", self._image, "1")

    def build(self, text: str, *options: str, **others: Any) -> Done:
        self.registry.seen.clear()
        text = text.replace("IMG", self.name)
        return self.project.build(*options, "--platform=linux/amd64", text=text, **others)

    def image(self, text: str, **others: Any) -> Image:
        self.registry.seen.clear()
        text = text.replace("IMG", self.name)
        return self.project.image("--platform=linux/amd64", text=text, **others)

    def digest(self, layer: int) -> str:
        return str(self._image.manifest.layers[layer].digest)

    def meet(self, count: int, layers: Sequence[int] = ()) -> None:
        """Let the next `count` layers (of `layers`) go only once all of them are asked for."""
        meeting = threading.Barrier(count)

        def met(body: bytes) -> bytes:
            meeting.wait(60)
            return body

        digests = [layer.digest for layer in self._image.manifest.layers]
        some = "|".join(digests[layer] for layer in layers or range(len(digests)))
        self.registry.fault(change(met), method="GET", path=some, times=count)

    def forget_blobs(self) -> None:
        """Lose the layers' blobs."""
        for layer in self._image.manifest.layers:
            (self.project.store / "blobs" / str(layer.digest).replace(":", "/")).unlink(missing_ok=True)

    @property
    def fetched(self) -> list[int]:
        """The layers that were asked for, in order."""
        digests = [layer.digest for layer in self._image.manifest.layers]
        asked = [one.path.rpartition("/")[2] for one in self.registry.requests("GET", "/blobs/")]
        return [digests.index(Digest(one)) for one in asked if one in digests]

    @property
    def size(self) -> int:
        """How many bytes all layers are."""
        return sum(layer.size for layer in self._image.manifest.layers)

    @property
    def bytes(self) -> int:
        """How many bytes of layers were sent."""
        digests = [layer.digest for layer in self._image.manifest.layers]
        sent = self.registry.requests("GET", "/blobs/")
        return sum(one.sent for one in sent if one.path.rpartition("/")[2] in digests)
