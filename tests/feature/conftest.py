"""Base images, a project for each test, and what every test leaves behind: nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minibuild.errors import SandboxError
from minibuild.sandbox.client import Sandbox
from tests.differential.bases import BUSYBOX, make_bases
from tests.feature.project import Project
from tests.servers.docker_registry import PROGRAM, DockerRegistry, docker_registry
from tests.servers.registry import FakeRegistry


def lacking(what: str) -> None:
    """Leave the test out where the machine lacks something; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: install it, CI runs every test")
    pytest.skip(what)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout of small images made from busybox-static."""
    if BUSYBOX is None:
        lacking("busybox-static is not installed")
    folder = tmp_path_factory.mktemp("bases")
    make_bases(folder)
    return folder


@pytest.fixture(scope="session")
def sandbox_works() -> None:
    try:
        Sandbox.start().close()
    except SandboxError as error:
        lacking(f"no sandbox here: {error.message}")


@pytest.fixture
def project(tmp_path: Path, bases: Path, sandbox_works: None) -> Iterator[Project]:
    """Everything a build needs; afterwards nothing of it may still run, be mounted or lie about."""
    folder = tmp_path / "project"
    folder.mkdir()
    made = Project(folder, bases)
    yield made
    litter = made.litter()
    for _ in range(100):  # the last process of a namespace may take a moment to go
        if not litter:
            break
        time.sleep(0.05)
        litter = made.litter()
    _remove(made.root)
    assert not litter, "\n".join(litter)


def _remove(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.rmtree(folder)
    else:  # files in the store belong to subordinate users
        with Sandbox.start() as sandbox:
            sandbox.remove(folder)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry in this process."""
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def real_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """Debian's docker-registry."""
    if PROGRAM is None:
        lacking("docker-registry is not installed")
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(folder) as server:
        yield server
    shutil.rmtree(folder)
