from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.errors import UsageError
from minibuild.exporters.export import export
from minibuild.exporters.image import ExportResult, Image
from minibuild.exporters.spec import parse_output
from minibuild.oci import mediatype
from minibuild.oci.manifest import Manifest
from minibuild.oci.reference import Reference
from tests.exporters.images import Maker, StoredBlobs

NAME = Reference.parse("app:1")


def layer_types(store: Store, result: ExportResult) -> list[str]:
    assert result.descriptor is not None
    return [layer.media_type for layer in Manifest.parse(store.blobs.get(result.descriptor.digest)).layers]


def test_cacheonly_writes_nothing(image: Image, blobs: StoredBlobs, store: Store) -> None:
    assert export([image], parse_output("type=cacheonly"), blobs=blobs, store=store).dest == ""


def test_an_archive_is_written_to_its_dest(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    export([image], parse_output(f"type=oci,dest={tmp_path}/x.tar"), blobs=blobs, store=store)
    assert tarfile.is_tarfile(tmp_path / "x.tar")


def test_an_archive_goes_to_standard_output(image: Image, blobs: StoredBlobs, store: Store) -> None:
    stream = io.BytesIO()
    export([image], parse_output("type=oci,dest=-"), blobs=blobs, store=store, stdout=stream)
    assert stream.getvalue().startswith(b"blobs/")


def test_standard_output_that_is_not_there_is_told(image: Image, blobs: StoredBlobs, store: Store) -> None:
    with pytest.raises(UsageError):
        export([image], parse_output("type=oci,dest=-"), blobs=blobs, store=store)


def test_a_layout_is_written_as_a_folder(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    export([image], parse_output(f"type=oci,dest={tmp_path}/x,tar=false"), blobs=blobs, store=store)
    assert (tmp_path / "x/index.json").is_file()


def test_names_of_the_build_count_where_the_output_has_none(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    own = parse_output(f"type=oci,dest={tmp_path}/x.tar,name=other")
    none = parse_output(f"type=oci,dest={tmp_path}/x.tar")
    assert export([image], own, blobs=blobs, store=store, names=[NAME]).names == (Reference.parse("other"),)
    assert export([image], none, blobs=blobs, store=store, names=[NAME]).names == (NAME,)


def test_a_docker_archive_gets_gzip_layers_also_of_the_base(
    make: Maker, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    image = make.image(make.layer({"one": b"1"}, base=True), make.layer({"two": b"2"}))
    export([image], parse_output(f"type=docker,dest={tmp_path}/x.tar"), blobs=blobs, store=store)
    with tarfile.open(tmp_path / "x.tar") as archive:
        starts = [
            file.read(2)
            for member in archive
            if member.name.startswith("blobs") and (file := archive.extractfile(member))
        ]
    assert starts.count(b"\x1f\x8b") == 2


def test_an_image_keeps_its_documents_in_the_store(image: Image, blobs: StoredBlobs, store: Store) -> None:
    result = export([image], parse_output("type=image,name=app"), blobs=blobs, store=store)
    assert layer_types(store, result) == [mediatype.OCI_LAYER_ZSTD] * 2


def test_an_image_that_is_not_to_be_kept_is_not(image: Image, blobs: StoredBlobs, store: Store) -> None:
    result = export([image], parse_output("type=image,name=app,store=false"), blobs=blobs, store=store)
    assert result.descriptor is not None
    assert not store.blobs.has(result.descriptor.digest)


def test_forced_compression_converts_the_base_too(make: Maker, blobs: StoredBlobs, store: Store) -> None:
    image = make.image(make.layer({"one": b"1"}, base=True))
    spec = parse_output("type=image,name=app,compression=gzip,force-compression=true")
    assert layer_types(store, export([image], spec, blobs=blobs, store=store)) == [mediatype.OCI_LAYER_GZIP]


def test_an_image_with_docker_media_types_has_no_zstd(image: Image, blobs: StoredBlobs, store: Store) -> None:
    spec = parse_output("type=image,name=app,oci-mediatypes=false")
    result = export([image], spec, blobs=blobs, store=store)
    assert layer_types(store, result) == [mediatype.DOCKER_LAYER_GZIP] * 2


def test_a_folder_of_files_is_written(image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path) -> None:
    export([image], parse_output(f"{tmp_path}/out"), blobs=blobs, store=store)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one", "two"]


def test_a_tar_of_files_goes_to_standard_output(image: Image, blobs: StoredBlobs, store: Store) -> None:
    stream = io.BytesIO()
    export([image], parse_output("-"), blobs=blobs, store=store, stdout=stream)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        assert archive.getnames() == ["one", "two"]


def test_an_epoch_is_the_time_of_every_file(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    spec = parse_output(f"type=local,dest={tmp_path}/out,source-date-epoch=7")
    export([image], spec, blobs=blobs, store=store)
    assert (tmp_path / "out/one").stat().st_mtime == 7


def test_canonical_and_dangling_names_are_by_digest(image: Image, blobs: StoredBlobs, store: Store) -> None:
    spec = parse_output("type=image,name=app:1,name-canonical=true,dangling-name-prefix=moby")
    result = export([image], spec, blobs=blobs, store=store)
    assert result.descriptor is not None
    digest = result.descriptor.digest
    assert [name.familiar for name in result.names] == ["app:1", f"app@{digest}", f"moby@{digest}"]


def test_a_push_needs_a_registry(image: Image, blobs: StoredBlobs, store: Store) -> None:
    with pytest.raises(UsageError, match="registry"):
        export([image], parse_output("type=registry,name=app"), blobs=blobs, store=store)


def test_writing_images_loads_nothing_heavy() -> None:
    code = (
        "import sys, minibuild.exporters.export\n"
        "heavy = {'typer', 'pydantic', 'urllib3', 'zstandard', 'isal', 'asyncio', 'ssl', 'tarfile'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
