"""The example keeps to the contracts, as any package can try for itself."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from minibuild.cache.backend import Services, backend_for
from minibuild.cache.spec import CacheSpec
from minibuild.exporters.spec import parse_output
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.executor import Executor, executor_for
from minibuild.testing.cache import CacheBackendContract, OpenCache
from minibuild.testing.executors import ExecutorContract
from minibuild.testing.exporters import ExporterContract, OpenExporter, ReadFiles
from tests.sandbox.conftest import image

__all__ = ["image"]

pytestmark = pytest.mark.usefixtures("example")


class TestShelf(CacheBackendContract):
    @pytest.fixture
    def open_cache(self, tmp_path: Path, example: ModuleType) -> OpenCache:
        spec = CacheSpec("shelf", {"path": str(tmp_path / "shelf")})
        return lambda: backend_for(spec, Services(lambda: Registry(RegistryOptions())))


class TestZip(ExporterContract):
    @pytest.fixture
    def open_exporter(self, example: ModuleType) -> OpenExporter:
        def make(folder: Path):  # type: ignore[no-untyped-def]
            exporter = parse_output(f"type=zip,dest={folder / 'files.zip'}").exporter
            assert exporter is not None
            return exporter

        return make

    @pytest.fixture
    def read_files(self) -> ReadFiles:
        def read(folder: Path) -> dict[str, bytes]:
            with zipfile.ZipFile(folder / "files.zip") as archive:
                return {name: archive.read(name) for name in archive.namelist()}

        return read


class TestOffline(ExecutorContract):
    @pytest.fixture
    def executor(self, sandbox: Sandbox, example: ModuleType) -> Executor:
        return executor_for("offline", sandbox)

    def test_no_process_has_a_network(self, runner) -> None:  # type: ignore[no-untyped-def]
        assert runner.sh("ls /sys/class/net").out.split() == ["lo"]
