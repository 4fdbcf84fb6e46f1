from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from minibuild_store.digest import Digest
from minibuild_store.errors import BlobDamaged
from minibuild_store.store import Store

from minibuild.errors import OutputError
from minibuild.exporters import layout
from minibuild.exporters.assemble import assemble
from minibuild.exporters.image import Image
from minibuild.exporters.index import IMAGE_NAME, REF_NAME
from minibuild.exporters.layout import write_layout
from minibuild.oci.reference import Reference
from tests.exporters.images import Maker, StoredBlobs

ONE = Reference.parse("registry.example/one:1")
TWO = Reference.parse("two")


def index(folder: Path) -> list[dict]:
    return json.loads((folder / "index.json").read_bytes())["manifests"]


def blob(folder: Path, digest: Digest) -> Path:
    return folder / "blobs" / digest.algorithm / digest.hex


def names(folder: Path) -> list[str]:
    return [entry["annotations"].get(IMAGE_NAME, "") for entry in index(folder)]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_every_blob_holds_what_its_name_promises(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    found = list((tmp_path / "out/blobs/sha256").iterdir())
    assert len(found) == 4
    assert all(Digest.of(path.read_bytes()).hex == path.name for path in found)


def test_layers_are_the_files_of_the_store(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    digest = image.layers[0].descriptor.digest
    assert blob(tmp_path / "out", digest).samefile(store.blobs.path(digest))


def test_the_result_says_what_was_written(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    result = write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE])
    assert result.descriptor is not None
    assert result.descriptor.digest == index(tmp_path / "out")[0]["digest"]
    assert (result.kind, result.dest, result.names) == ("oci", str(tmp_path / "out"), (ONE,))
    assert result.config == assemble([image]).manifests[0].config.digest


def test_every_name_is_an_entry_annotated_as_containerd_does(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE, TWO])
    pairs = [
        (one["annotations"][IMAGE_NAME], one["annotations"][REF_NAME]) for one in index(tmp_path / "out")
    ]
    assert pairs == [("registry.example/one:1", "1"), ("docker.io/library/two:latest", "latest")]


def test_an_image_without_a_name_is_tagged_latest(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    annotations = index(tmp_path / "out")[0]["annotations"]
    assert annotations[REF_NAME] == "latest"
    assert IMAGE_NAME not in annotations


def test_the_entry_names_the_platform(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert index(tmp_path / "out")[0]["platform"] == {"architecture": "amd64", "os": "linux"}


def test_other_names_in_the_folder_stay(
    image: Image, make: Maker, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE])
    other = assemble([make.image(make.layer({"x": b"x"}))])
    write_layout(other, tmp_path / "out", blobs=blobs, names=[TWO])
    assert names(tmp_path / "out") == [str(ONE), str(TWO)]


def test_the_same_name_is_replaced(image: Image, make: Maker, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE])
    other = assemble([make.image(make.layer({"x": b"x"}))])
    write_layout(other, tmp_path / "out", blobs=blobs, names=[ONE])
    assert [entry["digest"] for entry in index(tmp_path / "out")] == [other.root.digest]


def test_the_same_tag_of_another_repository_is_another_name(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[TWO])
    three = Reference.parse("three")
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[three])
    assert names(tmp_path / "out") == [str(TWO), str(three)]


def test_what_others_wrote_into_the_index_stays(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE])
    path = tmp_path / "out/index.json"
    document = json.loads(path.read_bytes())
    document["annotations"] = {"org.example": "x"}
    document["manifests"][0]["artifactType"] = "application/x"
    path.write_text(json.dumps(document))
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[TWO])
    after = json.loads(path.read_bytes())
    assert after["annotations"] == {"org.example": "x"}
    assert after["manifests"][0]["artifactType"] == "application/x"


def test_a_blob_that_is_there_is_left_alone(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    before = {path: path.stat().st_ctime_ns for path in (tmp_path / "out/blobs").rglob("*")}
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert {path: path.stat().st_ctime_ns for path in before} == before


@pytest.mark.parametrize("which", ["layer", "config"])
def test_a_blob_of_the_wrong_size_is_replaced(
    image: Image, blobs: StoredBlobs, tmp_path: Path, which: str
) -> None:
    assembly = assemble([image])
    digest = image.layers[0].descriptor.digest if which == "layer" else assembly.manifests[0].config.digest
    path = blob(tmp_path / "out", digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    write_layout(assembly, tmp_path / "out", blobs=blobs)
    assert Digest.of(path.read_bytes()) == digest


def test_blobs_are_copied_where_links_are_not_allowed(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    digest = image.layers[0].descriptor.digest
    copied = blob(tmp_path / "out", digest)
    assert Digest.of(copied.read_bytes()) == digest
    assert not copied.samefile(store.blobs.path(digest))
    assert copied.stat().st_mode & 0o777 == 0o444


def test_blobs_cross_to_another_filesystem(
    image: Image, blobs: StoredBlobs, tmp_path: Path, other_filesystem: Path
) -> None:
    write_layout(assemble([image]), other_filesystem / "out", blobs=blobs)
    digest = image.layers[0].descriptor.digest
    assert Digest.of(blob(other_filesystem / "out", digest).read_bytes()) == digest


def test_a_folder_of_something_else_is_refused(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        write_layout(assemble([image]), tmp_path, blobs=blobs)
    assert "not empty and is no OCI image layout" in caught.value.message
    assert "new folder" in caught.value.cure


def test_a_layout_of_another_version_is_refused(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/oci-layout").write_text('{"imageLayoutVersion":"9.0.0"}')
    with pytest.raises(OutputError, match=r"9\.0\.0"):
        write_layout(assemble([image]), tmp_path / "out", blobs=blobs)


@pytest.mark.parametrize("content", ["{", "[]", '{"schemaVersion":2,"manifests":7}', '{"schemaVersion":1}'])
def test_an_index_that_is_none_is_refused_and_kept(
    image: Image, blobs: StoredBlobs, tmp_path: Path, content: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "out/index.json").write_text(content)
    with pytest.raises(OutputError, match="is not an image index"):
        write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert tree(tmp_path / "out") == {"oci-layout", "index.json"}
    assert (tmp_path / "out/index.json").read_text() == content


def test_a_file_in_place_of_the_folder_is_refused(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError) as caught:
        write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert caught.value.cure


def test_a_full_disk_leaves_a_new_folder_unmade(
    image: Image, blobs: StoredBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout.Writer, "write", full)
    with pytest.raises(OutputError) as caught:
        write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert "no space left" in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_an_old_layout_as_it_was(
    image: Image, make: Maker, blobs: StoredBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs, names=[ONE])
    before = tree(tmp_path / "out")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout.Writer, "write", full)
    with pytest.raises(OutputError):
        write_layout(assemble([make.image(make.layer({"x": b"x"}))]), tmp_path / "out", blobs=blobs)
    assert tree(tmp_path / "out") == before
    assert names(tmp_path / "out") == [str(ONE)]


def test_a_run_killed_before_the_index_is_finished_by_the_next(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    (tmp_path / "out/index.json").unlink()
    (tmp_path / "out/oci-layout").unlink()
    (tmp_path / "out/.minibuild-1-0").write_bytes(b"half")
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"oci-layout", "index.json", "blobs"}
    assert len(index(tmp_path / "out")) == 1


def test_a_store_blob_of_the_wrong_size_is_told_before_anything_is_written(
    image: Image, blobs: StoredBlobs, store: Store, tmp_path: Path
) -> None:
    path = store.blobs.path(image.layers[0].descriptor.digest)
    path.unlink()
    path.write_bytes(b"half")
    with pytest.raises(BlobDamaged):
        write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert not (tmp_path / "out").exists()


def test_many_exports_at_once_all_keep_their_names(image: Image, blobs: StoredBlobs, tmp_path: Path) -> None:
    assembly = assemble([image])
    references = [Reference.parse(f"registry.example/app:{i}") for i in range(12)]
    threads = [
        threading.Thread(
            target=write_layout, args=(assembly, tmp_path / "out"), kwargs={"blobs": blobs, "names": [name]}
        )
        for name in references
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(tmp_path / "out")) == sorted(map(str, references))


def test_layers_that_a_registry_holds_are_asked_for_once_each(
    image: Image, blobs: StoredBlobs, tmp_path: Path
) -> None:
    blobs.origins = {layer.descriptor.digest: ONE for layer in image.layers}
    write_layout(assemble([image]), tmp_path / "out", blobs=blobs)
    assert sorted(blobs.asked) == sorted(layer.descriptor.digest for layer in image.layers)


def test_several_platforms_are_one_entry(make: Maker, blobs: StoredBlobs, tmp_path: Path) -> None:
    layer = make.layer({"one": b"1"})
    images = [make.image(layer, platform=name) for name in ("linux/amd64", "linux/arm64")]
    result = write_layout(assemble(images), tmp_path / "out", blobs=blobs)
    assert [entry["digest"] for entry in index(tmp_path / "out")] == [assemble(images).root.digest]
    assert result.config is None
