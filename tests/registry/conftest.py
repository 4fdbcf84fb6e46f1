"""A store, and registries to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.store import Store

from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from tests.servers.docker_registry import PROGRAM, DockerRegistry, docker_registry
from tests.servers.doorkeeper import Doorkeeper
from tests.servers.registry import FakeRegistry


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


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """A registry in this process that anyone may use."""
    with FakeRegistry() as made:
        yield made


@pytest.fixture
def guarded() -> Iterator[FakeRegistry]:
    """A registry in this process that wants tokens."""
    with FakeRegistry(door=Doorkeeper()) as made:
        yield made


@dataclass
class Patience:
    """Stands in for sleeping; `waited` are the seconds asked for."""

    waited: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


@pytest.fixture
def patience() -> Patience:
    return Patience()


Connect = Callable[..., Registry]


@pytest.fixture
def connect(patience: Patience) -> Iterator[Connect]:
    """Makes clients with the given options, which do not really sleep."""
    made: list[Registry] = []

    def make(**options: Any) -> Registry:
        made.append(Registry(RegistryOptions(**options), wait=patience))
        return made[-1]

    yield make
    for one in made:
        one.close()
