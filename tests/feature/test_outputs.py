"""What a build writes beside its own store."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feature.project import Image, Project

TEXT = 'FROM busybox\nRUN echo made > /made\nCMD ["cat", "/made"]\n'


def test_one_build_writes_every_output_asked_for(project: Project) -> None:
    out = project.root / "out"
    project.built(
        "-t", "team/app:1.0",
        "-o", f"type=oci,dest={out}/oci.tar",
        "-o", f"type=oci,tar=false,dest={out}/layout",
        "-o", f"type=docker,dest={out}/docker.tar",
        "-o", f"type=tar,dest={out}/root.tar",
        "-o", f"type=local,dest={out}/root",
        text=TEXT,
    )  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == [
        "docker.tar", "layout", "oci.tar", "root", "root.tar"
    ]  # fmt: skip
    assert (out / "root/made").read_text() == "made\n"
    with tarfile.open(out / "root.tar") as archive:
        file = archive.extractfile("made")
        assert file is not None and file.read() == b"made\n"
    with tarfile.open(out / "oci.tar") as archive:
        assert {"oci-layout", "index.json"} <= set(archive.getnames())
    with tarfile.open(out / "docker.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        entry = json.loads(manifest.read())[0]
    assert entry["RepoTags"] == ["team/app:1.0"]
    assert Image(out / "layout").text("made") == "made\n"


def test_a_folder_alone_means_the_root_filesystem(project: Project) -> None:
    out = project.root / "out"
    project.built("-o", str(out), text=TEXT)
    assert (out / "made").read_text() == "made\n"


def test_a_dash_means_a_tar_on_standard_output(project: Project) -> None:
    project.dockerfile(TEXT)
    with (project.root / "root.tar").open("wb") as file:
        process = project.start("build", *project.base(), "-o", "-", str(project.context), stdout=file)
        process.communicate(timeout=120)
    assert process.returncode == 0
    with tarfile.open(project.root / "root.tar") as archive:
        assert "made" in archive.getnames()


def test_layers_are_zstd_unless_asked_otherwise(project: Project) -> None:
    project.dockerfile(TEXT)
    types = {}
    for name in ("zstd", "gzip", "uncompressed"):
        folder = project.root / name
        attribute = "" if name == "zstd" else f",compression={name}"
        project.built("-o", f"type=oci,tar=false,dest={folder}{attribute}")
        image = Image(folder)
        types[name] = image.manifest["layers"][-1]["mediaType"].rpartition("tar")[2]
        assert image.text("made") == "made\n"
    assert types == {"zstd": "+zstd", "gzip": "+gzip", "uncompressed": ""}


def test_the_image_id_and_the_metadata_are_written_to_files(project: Project) -> None:
    layout, ids, metadata = (project.root / name for name in ("layout", "iid", "metadata.json"))
    done = project.built(
        "-q", "-t", "app", "--iidfile", str(ids), "--metadata-file", str(metadata),
        "-o", f"type=oci,tar=false,dest={layout}",
        text=TEXT,
    )  # fmt: skip
    image = Image(layout)
    config = image.manifest["config"]["digest"]
    assert ids.read_text() == config
    assert done.out == config + "\n"
    assert json.loads(metadata.read_text()) == {
        "containerimage.config.digest": config,
        "containerimage.digest": image.digest,
        "image.name": "docker.io/library/app:latest",
    }


def test_an_existing_file_is_replaced_as_a_whole(project: Project) -> None:
    path = project.root / "image.tar"
    path.write_bytes(b"old")
    project.built("-o", f"type=oci,dest={path}", text=TEXT)
    first = path.read_bytes()
    project.built("-o", f"type=oci,dest={path}")
    assert path.read_bytes() == first
    assert [name.name for name in project.root.iterdir() if name.name.startswith(".")] == []


def test_an_image_with_no_step_has_the_bases_layers(project: Project) -> None:
    image = project.image(text="FROM busybox\nLABEL only=label\n")
    assert len(image.diff_ids) == 1
    assert image.config["Labels"] == {"only": "label"}


def test_what_is_written_is_what_its_digests_say(project: Project) -> None:
    image = project.image(text=TEXT)
    for number, diff_id in enumerate(image.diff_ids):
        assert "sha256:" + hashlib.sha256(image.tar(number)).hexdigest() == diff_id
    blobs = {path.name for path in (image.layout / "blobs/sha256").iterdir()}
    named = {layer["digest"][7:] for layer in image.manifest["layers"]}
    assert blobs == named | {image.digest[7:], image.manifest["config"]["digest"][7:]}


def test_blobs_of_a_layout_are_links_into_the_store(project: Project) -> None:
    image = project.image(text=TEXT)
    path: Path = image.layout / "blobs" / image.manifest["layers"][-1]["digest"].replace(":", "/")
    assert path.stat().st_nlink > 1


def test_the_image_id_goes_to_standard_output_where_that_is_a_pipe(project: Project) -> None:
    project.dockerfile("FROM busybox\nENV a=b\n")
    done = project.process("build", *project.base(), "--iidfile", "/dev/stdout", str(project.context))
    assert done.code == 0 and done.out.startswith("sha256:")


@pytest.mark.parametrize(
    "output", ["type=oci,tar=false,dest={}", "type=oci,tar=false,dest={}-2", "type=oci,dest={}.tar"]
)
def test_a_blob_edited_through_an_exported_folder_is_made_again(project: Project, output: str) -> None:
    project.write("a", "content")
    folder = project.root / "exported"
    text = "FROM scratch\nCOPY a /\n"
    project.built("-o", f"type=oci,tar=false,dest={folder}", text=text)
    project.built("-o", f"type=oci,tar=false,dest={folder}", text=text)
    for blob in (folder / "blobs" / "sha256").iterdir():
        status = blob.stat()
        if status.st_nlink > 1:
            blob.chmod(0o644)
            blob.write_bytes(bytes(status.st_size))
            os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    dest = output.format(folder)
    done = project.built("-o", dest, text=text)
    assert not done.cached("COPY a /")
    for name, blob in blobs_of(Path(dest.rpartition("dest=")[2])):
        assert hashlib.sha256(blob).hexdigest() == name


def blobs_of(layout: Path) -> Iterator[tuple[str, bytes]]:
    """Each blob of a layout, or of an archive of one, with its name."""
    if layout.is_dir():
        yield from ((blob.name, blob.read_bytes()) for blob in (layout / "blobs" / "sha256").iterdir())
        return
    with tarfile.open(layout) as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if folder == "blobs/sha256" and member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                yield name, file.read()
