"""The contract of exporters over all of minibuild's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minibuild.exporters.export import BuiltIn
from minibuild.exporters.exporter import Exporter, ExportServices
from minibuild.exporters.image import ExportResult, Image
from minibuild.exporters.spec import parse_output
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from minibuild.testing.exporters import ExporterContract, OpenExporter, ReadFiles
from tests.exporters.images import members
from tests.feature.conftest import lacking
from tests.feature.project import Image as Written
from tests.servers.docker_registry import PROGRAM, DockerRegistry, docker_registry


def opener(text: str) -> OpenExporter:
    """What makes the exporter for ``-o`` with DIR in `text` for the folder."""
    return lambda folder: BuiltIn(parse_output(text.replace("DIR", str(folder))))


def regular(image: Written) -> dict[str, bytes]:
    return {path: file.data for path, file in image.files.items() if file.kind == b"0"}


def unpacked(archive: Path) -> Path:
    """A tar archive's files beside it; the tests look into the folder before, never after."""
    folder = archive.parent.with_name(f"{archive.parent.name}-read")
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True, timeout=60)
    return folder


class TestLayout(ExporterContract):
    @pytest.fixture
    def open_exporter(self) -> OpenExporter:
        return opener("type=oci,tar=false,dest=DIR/image")

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        return lambda folder: regular(Written(folder / "image"))


class TestArchive(ExporterContract):
    @pytest.fixture
    def open_exporter(self) -> OpenExporter:
        return opener("type=oci,dest=DIR/image.tar")

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        return lambda folder: regular(Written(unpacked(folder / "image.tar")))


class TestDockerArchive(ExporterContract):
    @pytest.fixture
    def open_exporter(self) -> OpenExporter:
        return opener("type=docker,dest=DIR/image.tar")

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        def read(folder: Path) -> dict[str, bytes]:
            layout = unpacked(folder / "image.tar")
            assert json.loads((layout / "manifest.json").read_bytes())[0]["RepoTags"]
            return regular(Written(layout))

        return read


class TestTar(ExporterContract):
    @pytest.fixture
    def open_exporter(self) -> OpenExporter:
        return opener("type=tar,dest=DIR/files.tar")

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        return lambda folder: members(folder / "files.tar")


class TestFolder(ExporterContract):
    @pytest.fixture
    def open_exporter(self) -> OpenExporter:
        return opener("type=local,dest=DIR/files")

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        def read(folder: Path) -> dict[str, bytes]:
            top = folder / "files"
            found = (path for path in top.rglob("*") if path.is_file())
            return {str(path.relative_to(top)): path.read_bytes() for path in found}

        return read


class Pushing:
    """The push to a registry, with a client of its own."""

    def __init__(self, name: str) -> None:
        self._exporter: Exporter = BuiltIn(parse_output(f"type=image,push=true,name={name}"))

    def export(self, images: list[Image], services: ExportServices) -> ExportResult:
        with Registry(RegistryOptions(attempts=2)) as registry:
            return self._exporter.export(images, services._replace(registry=lambda: registry))


class TestPush(ExporterContract):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[DockerRegistry]:
        if PROGRAM is None:
            lacking("docker-registry is not installed")
        (tmp_path / "registry").mkdir()
        with docker_registry(tmp_path / "registry") as server:
            yield server

    @pytest.fixture
    def open_exporter(self, server: DockerRegistry) -> OpenExporter:
        return lambda folder: Pushing(f"{server.host}/{folder.name}:1")

    @pytest.fixture
    def read_files(self, server: DockerRegistry, tmp_path: Path) -> ReadFiles:
        def read(folder: Path) -> dict[str, bytes]:
            layout = tmp_path / f"{folder.name}-pulled"
            source, dest = f"docker://{server.host}/{folder.name}:1", f"oci:{layout}:1"
            subprocess.run(
                ["skopeo", "copy", "-q", "--src-tls-verify=false", source, dest], check=True, timeout=60
            )
            return regular(Written(layout))

        return read
