"""A store, and registries to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.registry.client import Registry
from tests.servers.docker_registry import PROGRAM, DockerRegistry, docker_registry


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """One docker-registry for the tests of a module."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("docker-registry")) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Registry]:
    with Registry() as made:
        yield made
