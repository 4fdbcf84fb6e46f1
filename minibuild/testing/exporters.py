"""What every exporter keeps to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from minibuild_store.blobs import BlobInfo
from minibuild_store.errors import StoreError
from minibuild_store.store import Store

from minibuild.errors import MinibuildError
from minibuild.exporters.exporter import Exporter, ExportServices
from minibuild.exporters.image import Image, ImageLayer
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.writer import LayerWriter
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference

OpenExporter = Callable[[Path], Exporter]
ReadFiles = Callable[[Path], Mapping[str, bytes]]
_CREATED = "2026-03-04T05:06:07Z"
_NAME = Reference.parse("contract:1")
_WAIT = 60.0  # seconds that exports at once may take


class ExporterContract:
    """Give two fixtures.

    `open_exporter`: called with an empty folder, it makes an exporter that writes there, or elsewhere under a
    name of its own. `read_files`: called with that folder after an export, it reads the image back as
    anybody would: the regular files of the root filesystem by path (no slash in front) with what they hold.
    """

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with Store.open(tmp_path / "store") as store:
            yield store

    @pytest.fixture
    def image(self, store: Store) -> Image:
        """Two layers; the second one changes a file of the first and takes one away."""
        below = make_layer(store, {"etc/one": b"1\n", "etc/two": b"old", "gone": b"x"})
        return make_image(below, make_layer(store, {"etc/two": b"22\n", ".wh.gone": b""}))

    @pytest.fixture
    def lost(self, store: Store) -> Image:
        """An image whose second layer is nowhere."""
        first = make_layer(store, {"a": b"a"})
        second = make_layer(store, {"b": os.urandom(4096)})
        store.blobs.delete(second.descriptor.digest)
        return make_image(first, second)

    def test_what_is_read_back_is_the_image(
        self, open_exporter: OpenExporter, read_files: ReadFiles, store: Store, image: Image, tmp_path: Path
    ) -> None:
        folder = new_folder(tmp_path, "out")
        result = open_exporter(folder).export([image], services(store))
        assert dict(read_files(folder)) == {"etc/one": b"1\n", "etc/two": b"22\n"}
        assert result.kind
        assert result.descriptor is None or result.descriptor.size > 0

    def test_the_same_image_gives_the_same_bytes(
        self, open_exporter: OpenExporter, store: Store, image: Image, tmp_path: Path
    ) -> None:
        folders = [new_folder(tmp_path, name) for name in ("one", "two")]
        results = [open_exporter(folder).export([image], services(store)) for folder in folders]
        assert held(folders[0]) == held(folders[1])
        assert results[0].descriptor == results[1].descriptor

    def test_an_output_may_be_written_again(
        self, open_exporter: OpenExporter, read_files: ReadFiles, store: Store, image: Image, tmp_path: Path
    ) -> None:
        folder = new_folder(tmp_path, "out")
        open_exporter(folder).export([image], services(store))
        before = held(folder)
        open_exporter(folder).export([image], services(store))
        assert held(folder) == before

    def test_a_lost_layer_is_an_error_and_nothing_is_left(
        self, open_exporter: OpenExporter, store: Store, lost: Image, tmp_path: Path
    ) -> None:
        folder = new_folder(tmp_path, "out")
        with pytest.raises((MinibuildError, StoreError)):
            open_exporter(folder).export([lost], services(store))
        assert not held(folder)

    def test_an_export_that_fails_leaves_what_was_there(
        self, open_exporter: OpenExporter, store: Store, image: Image, lost: Image, tmp_path: Path
    ) -> None:
        folder = new_folder(tmp_path, "out")
        open_exporter(folder).export([image], services(store))
        before = held(folder)
        with pytest.raises((MinibuildError, StoreError)):
            open_exporter(folder).export([lost], services(store))
        assert held(folder) == before

    def test_the_layers_in_the_store_stay_as_they_are(
        self, open_exporter: OpenExporter, store: Store, image: Image, tmp_path: Path
    ) -> None:
        before = {layer.descriptor.digest: store.blobs.get(layer.descriptor.digest) for layer in image.layers}
        open_exporter(new_folder(tmp_path, "out")).export([image], services(store))
        assert before == {digest: store.blobs.get(digest) for digest in before}

    def test_two_may_export_at_once(
        self, open_exporter: OpenExporter, read_files: ReadFiles, store: Store, image: Image, tmp_path: Path
    ) -> None:
        folders = [new_folder(tmp_path, f"out{number}") for number in range(4)]
        errors: list[BaseException] = []

        def run(folder: Path) -> None:
            try:
                open_exporter(folder).export([image], services(store))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(folder,), daemon=True) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_WAIT)
            assert not thread.is_alive()
        assert not errors
        assert all(dict(read_files(folder)) == dict(read_files(folders[0])) for folder in folders)


class StoredBlobs:
    """The blobs of a store, none of them known to any registry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def path(self, descriptor: Descriptor) -> Path:
        if not self._store.blobs.has(descriptor.digest):
            raise MinibuildError(f"there is no blob {descriptor.digest}")
        return self._store.blobs.path(descriptor.digest)

    def origin(self, descriptor: Descriptor) -> Reference | None:
        return None


def services(store: Store) -> ExportServices:
    """What the engine would hand to an exporter."""
    return ExportServices(store, StoredBlobs(store), (_NAME,))


def make_layer(store: Store, files: Mapping[str, bytes]) -> ImageLayer:
    """A layer of regular files, kept in `store`; ``.wh.NAME`` takes NAME away."""
    with store.blobs.writer() as blob:
        writer = LayerWriter(blob.fd)
        for name, content in files.items():
            writer.add(Entry(name.encode(), Kind.FILE, 0o644, size=len(content)), content)
        result = writer.close()
        blob.commit_hashed(BlobInfo(result.digest, result.size))
    return ImageLayer(result.diff_id, Descriptor(result.media_type, result.digest, result.size))


def make_image(*layers: ImageLayer) -> Image:
    """An image for this machine, with a line of history for each layer."""
    history = tuple(History(created_by=f"COPY {number}", created=_CREATED) for number in range(len(layers)))
    diff_ids = tuple(layer.diff_id for layer in layers)
    config = ImageConfig(Platform.of_host(), created=_CREATED, diff_ids=diff_ids, history=history)
    return Image(config, layers)


def new_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def held(folder: Path) -> dict[str, bytes]:
    """All that a folder holds: files by path with their bytes, folders with a slash behind."""
    found: dict[str, bytes] = {}
    for base, folders, files in os.walk(folder):
        here = Path(base).relative_to(folder)
        found |= {f"{here / name}/": b"" for name in folders}
        found |= {str(here / name): Path(base, name).read_bytes() for name in files}
    return found
