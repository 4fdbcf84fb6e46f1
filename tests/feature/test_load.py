"""Archives of docker before version 25, and of those who write the like: manifest.json, no OCI layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping

import pytest

from tests.feature.conftest import lacking
from tests.feature.project import Image, Project

OTHER = "other"


def tar_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


class Saved:
    """What ``docker save`` of version 20.10 writes of an image: a folder a layer, the table last."""

    def __init__(self, image: Image, *names: str) -> None:
        config = image.blob(image.manifest["config"]["digest"])
        self.id = hashlib.sha256(config).hexdigest()
        layers = [image.tar(number) for number in range(len(image.manifest["layers"]))]
        folders = [hashlib.sha256(b"%d" % number + layer).hexdigest() for number, layer in enumerate(layers)]
        self.files = {f"{self.id}.json": config}
        for folder, layer in zip(folders, layers, strict=True):
            self.files |= {f"{folder}/VERSION": b"1.0", f"{folder}/json": b"{}", f"{folder}/layer.tar": layer}
        self.layers = [f"{folder}/layer.tar" for folder in folders]
        self.row = {"Config": f"{self.id}.json", "RepoTags": list(names) or None, "Layers": self.layers}

    def archive(self, *others: Saved, links: Mapping[str, str] | None = None) -> bytes:
        table = json.dumps([saved.row for saved in (self, *others)]).encode()
        files = {name: data for saved in (self, *others) for name, data in saved.files.items()}
        return tar_of({**files, "manifest.json": table, "repositories": b"{}"}, links)


@pytest.fixture
def image(project: Project) -> Image:
    text = 'FROM busybox\nRUN echo made > /made\nCMD ["cat", "/made"]\n'
    return project.image(text=text)


def store(project: Project) -> dict[str, str]:
    return {"MINIBUILD_ROOT": str(project.root / OTHER)}


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_what_docker_saves_is_loaded_from_a_pipe_with_its_id(
    project: Project, image: Image, compress
) -> None:
    saved = Saved(image, "app:1", "team/app:x")
    done = project.command("load", stdin=compress(saved.archive()), environment=store(project))
    assert done.out == "".join(
        f"Loaded image: {name} (sha256:{saved.id})\n" for name in ("app:1", "team/app:x")
    )
    ran = project.process("run", "app:1", environment=store(project))
    assert (ran.code, ran.out) == (0, "made\n")


def test_every_image_of_an_archive_is_loaded(project: Project, image: Image) -> None:
    second = Saved(project.image(text="FROM busybox\nLABEL a=b\n"), "b:1")
    first = Saved(image, "a:1")
    done = project.command("load", stdin=first.archive(second), environment=store(project))
    assert [line.split()[2] for line in done.out.splitlines()] == ["a:1", "b:1"]
    done = project.command("load", "-t", "c", stdin=first.archive(second), environment=store(project))
    assert done.code == 2 and "holds 2 images" in done.error


def test_equal_layers_may_be_links_to_one(project: Project, image: Image) -> None:
    saved = Saved(image, "a:1")
    folder = saved.layers[0].partition("/")[0]
    saved.files["blob.tar"] = saved.files.pop(saved.layers[0])
    archive = saved.archive(links={f"{folder}/layer.tar": "../blob.tar"})
    done = project.command("load", stdin=archive, environment=store(project))
    assert done.code == 0, done.err


def test_layers_may_be_compressed_and_lie_beside_the_table(project: Project, image: Image) -> None:
    saved = Saved(image, "a:1")
    for number, name in enumerate(list(saved.layers)):
        saved.files[f"{number}.tar.gz"] = gzip.compress(saved.files.pop(name))
        saved.layers[number] = f"{number}.tar.gz"
    done = project.command("load", stdin=saved.archive(), environment=store(project))
    assert done.code == 0, done.err
    assert project.process("run", "a:1", environment=store(project)).out == "made\n"


def test_an_image_without_a_name_takes_the_one_given(project: Project, image: Image) -> None:
    archive = Saved(image).archive()
    done = project.command("load", stdin=archive, environment=store(project))
    assert done.code == 2 and "the image has no name" in done.error
    done = project.command("load", "-t", "mine:2", stdin=archive, environment=store(project))
    assert done.out.startswith("Loaded image: mine:2 ")


def test_a_layer_that_is_not_the_one_told_of_is_refused(project: Project, image: Image) -> None:
    saved = Saved(image, "a:1")
    saved.files[saved.layers[-1]] = tar_of({"made": b"otherwise\n"})
    done = project.command("load", stdin=saved.archive(), environment=store(project))
    assert done.code == 2 and "is damaged" in done.error
    assert "a  " not in project.command("images", environment=store(project)).out


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"no archive at all", "cannot read standard input"),
        (tar_of({"f": b""}), "neither an OCI layout nor docker's manifest.json"),
        (tar_of({"manifest.json": b"{}x"}), "is not one of docker's"),
        (tar_of({"manifest.json": b'[{"Config": "c.json", "Layers": []}]'}), "lacks c.json"),
    ],
)
def test_what_is_no_archive_of_an_image_is_told(project: Project, data: bytes, words: str) -> None:
    done = project.command("load", stdin=data, environment=store(project))
    assert done.code == 2 and words in done.error


def test_an_archive_cut_short_leaves_nothing_behind(project: Project, image: Image) -> None:
    data = Saved(image, "a:1").archive()
    done = project.command("load", stdin=data[: len(data) // 2], environment=store(project))
    assert done.code == 2 and "cannot read standard input" in done.error
    left = (project.root / OTHER / "blobs").rglob("*")
    assert not [path for path in left if path.is_file()]


def test_what_skopeo_writes_for_docker_is_loaded(project: Project) -> None:
    if shutil.which("skopeo") is None:
        lacking("skopeo is not installed")
    layout = project.root / "layout"
    project.built("-o", f"type=oci,tar=false,compression=gzip,force-compression=true,dest={layout}",
                  text="FROM busybox\nRUN echo made > /made\n")  # fmt: skip
    archive = project.root / "docker.tar"
    copied = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", f"oci:{layout}", f"docker-archive:{archive}:sk:1"],
        capture_output=True, text=True, timeout=60, env=project.variables(),
    )  # fmt: skip
    assert copied.returncode == 0, copied.stderr
    done = project.command("load", "-i", str(archive), environment=store(project))
    assert done.out.startswith("Loaded image: sk:1 "), done.err


def test_every_named_image_of_a_layout_is_loaded(project: Project) -> None:
    """As ``docker save`` writes several from version 25 on."""
    layout = project.root / "layout"
    project.built("-t", "a:1", "-t", "b:2", "-o", f"type=oci,tar=false,dest={layout}", text="FROM busybox\n")
    done = project.command("load", "-i", str(layout), environment=store(project))
    assert [line.split()[2] for line in done.out.splitlines()] == ["a:1", "b:2"]
