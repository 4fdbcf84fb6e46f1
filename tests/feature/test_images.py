"""The images in the store: names, history, and their way in and out."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

import pytest

from tests.feature.conftest import lacking
from tests.feature.project import Project
from tests.servers.docker_registry import DockerRegistry

TEXT = 'FROM busybox\nLABEL a=b\nRUN echo made > /made\nCMD ["cat", "/made"]\n'


@pytest.fixture
def built(project: Project) -> Project:
    """A project whose image is called app."""
    project.built("-t", "app", "-t", "team/app:1.0", text=TEXT)
    return project


def ok(project: Project, *arguments: str) -> str:
    done = project.command(*arguments)
    assert done.code == 0, done.err
    return done.out


def test_images_lists_every_name_with_its_id(built: Project) -> None:
    lines = ok(built, "images").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert sorted(line.split()[:2] for line in lines[1:]) == [["app", "latest"], ["team/app", "1.0"]]
    ids = ok(built, "images", "-q").split()
    assert len(ids) == 2 and len(set(ids)) == 1
    assert {json.loads(line)["id"] for line in ok(built, "images", "--json").splitlines()} == set(ids)


def test_tag_gives_another_name_and_rmi_takes_one_away(built: Project) -> None:
    ok(built, "tag", "app", "other:2")
    assert ok(built, "inspect", "other:2").replace("other:2", "app:latest") == ok(built, "inspect", "app")
    assert ok(built, "rmi", "other:2") == "Untagged: other:2\n"
    assert "other" not in ok(built, "images")
    assert built.command("inspect", "other:2").code == 2


def test_history_shows_every_line_newest_first(built: Project) -> None:
    lines = ok(built, "history", "--no-trunc", "app").splitlines()
    assert lines[0].startswith("CREATED")
    assert 'CMD ["cat" "/made"]' in lines[1]
    assert "RUN /bin/sh -c echo made > /made" in lines[2]
    assert "LABEL a=b" in lines[3]
    assert "base layer 0" in lines[4]


def test_inspect_prints_the_configuration(built: Project) -> None:
    document = json.loads(ok(built, "inspect", "app"))
    assert document["config"]["config"]["Labels"] == {"a": "b"}
    assert len(document["layers"]) == 2


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_saved_image_can_be_loaded_into_another_store(built: Project, form: str) -> None:
    archive = built.root / "saved.tar"
    ok(built, "save", "--format", form, "-o", str(archive), "team/app:1.0")
    other = {"MINIBUILD_ROOT": str(built.root / "other")}
    done = built.command("load", "-i", str(archive), environment=other)
    assert done.code == 0, done.err
    loaded = json.loads(built.command("images", "--json", environment=other).out)["id"]
    assert done.out == f"Loaded image: team/app:1.0 ({loaded})\n"
    here = json.loads(ok(built, "inspect", "app"))["config"]
    there = json.loads(built.command("inspect", "team/app:1.0", environment=other).out)["config"]
    assert there == here


def test_a_pushed_image_can_be_pulled_and_built_on(built: Project, real_registry: DockerRegistry) -> None:
    name = f"{real_registry.host}/team/app:1.0"
    ok(built, "tag", "app", name)
    pushed = ok(built, "push", name).strip()
    other = {"MINIBUILD_ROOT": str(built.root / "other")}
    done = built.command("pull", name, environment=other)
    assert (done.code, done.out.strip()) == (0, pushed)
    done = built.process("run", name, environment=other)
    assert (done.code, done.out) == (0, "made\n")
    built.dockerfile(f"FROM {name}\nRUN test -e /made\n")
    done = built.command(
        "build", str(built.context), environment={"MINIBUILD_ROOT": str(built.root / "third")}
    )
    assert done.code == 0, done.err


def test_a_build_pushes_under_its_tags_and_mounts_the_base(
    project: Project, real_registry: DockerRegistry
) -> None:
    host = real_registry.host
    project.built("--push", "-t", f"{host}/base:1", text="FROM busybox\nRUN echo base > /base\n")
    other = {"MINIBUILD_ROOT": str(project.root / "other")}
    project.dockerfile(f"FROM {host}/base:1\nCOPY Dockerfile /\n")
    done = project.command("build", "--push", "-t", f"{host}/app:1", str(project.context), environment=other)
    assert done.code == 0, done.err
    assert real_registry.requests("POST", "mount=") == 2
    pulled = project.root / "other/blobs"
    assert pulled.is_dir()


def test_a_mirror_is_asked_in_place_of_the_registry(project: Project, real_registry: DockerRegistry) -> None:
    project.built("--push", "-t", f"{real_registry.host}/library/thing:1", text=TEXT)
    project.dockerfile("FROM thing:1\nRUN cat /made\n")
    done = project.command(
        "build", "--registry-mirror", f"docker.io={real_registry.host}", str(project.context),
        environment={"MINIBUILD_ROOT": str(project.root / "other")},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "made" in done.step("RUN cat /made")


def test_skopeo_and_umoci_read_what_is_written(built: Project) -> None:
    for tool in ("skopeo", "umoci"):
        if shutil.which(tool) is None:
            lacking(f"{tool} is not installed")
    layout = built.root / "layout"
    built.built(
        "-t", "app", "-o", f"type=oci,tar=false,compression=gzip,force-compression=true,dest={layout}"
    )
    found = subprocess.run(
        ["skopeo", "inspect", f"oci:{layout}:latest"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["Labels"] == {"a": "b"}
    bundle = built.root / "bundle"
    unpacked = subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", f"{layout}:latest", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert unpacked.returncode == 0, unpacked.stderr
    assert (bundle / "rootfs/made").read_text() == "made\n"


def test_a_docker_archive_names_the_image_and_its_layers(built: Project) -> None:
    archive = built.root / "saved.tar"
    ok(built, "save", "-o", str(archive), "app", "team/app:1.0")
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        entry = json.loads(manifest.read())[0]
        assert sorted(entry["RepoTags"]) == ["app:latest", "team/app:1.0"]
        assert {entry["Config"], *entry["Layers"]} <= set(tar.getnames())
