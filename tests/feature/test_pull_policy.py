"""--pull: when a registry is asked for a base image, and when what the store has will do."""

from __future__ import annotations

import pytest

from minibuild.registry.client import Registry
from tests.feature.project import Project
from tests.servers.faults import status
from tests.servers.registry import FakeRegistry


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries."""
    assert Registry.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Registry.__init__.__kwdefaults__, "wait", lambda seconds: None)


class Base:
    """``base:1`` at the registry: the plain base, or that with other labels."""

    def __init__(self, project: Project, registry: FakeRegistry) -> None:
        self._project = project
        self._registry = registry
        self.name = f"{registry.host}/base:1"
        project.dockerfile(f"FROM {self.name}\nCOPY Dockerfile /\n")

    def push(self, *options: str) -> None:
        """Put an image at the registry under the name."""
        done = self._project.command(
            "build", *self._project.base(), *options, "-f", "-", "--push", "-t", self.name,
            str(self._project.context), stdin=b"FROM busybox\n",
            environment={"MINIBUILD_ROOT": str(self._project.root / "other")},
        )  # fmt: skip
        assert done.code == 0, done.err

    def labels(self, *options: str) -> dict[str, str]:
        """The labels that a build on it inherits."""
        found: dict[str, str] = self._project.image(*options).config.get("Labels", {})
        return found

    def asked(self) -> int:
        """How often the registry was asked for manifests since the last time."""
        found = len(self._registry.requests("GET", "/manifests/"))
        found += len(self._registry.requests("HEAD", "/manifests/"))
        self._registry.seen.clear()
        return found


@pytest.fixture
def base(project: Project, registry: FakeRegistry) -> Base:
    made = Base(project, registry)
    made.push("--label", "a=1")
    made.asked()
    return made


@pytest.mark.parametrize("options", [(), ("--pull=missing",), ("--pull=false",)])
def test_missing_asks_only_for_what_is_not_here(base: Base, options: tuple[str, ...]) -> None:
    assert base.labels(*options) == {"a": "1"}
    assert base.asked()
    base.push("--label", "a=2")
    base.asked()
    assert base.labels(*options) == {"a": "1"}
    assert not base.asked()


@pytest.mark.parametrize("option", ["--pull", "--pull=always", "--pull=true", "--pull=newer"])
def test_always_and_newer_take_what_the_registry_has(base: Base, option: str) -> None:
    assert base.labels(option) == {"a": "1"}
    base.push("--label", "a=2")
    assert base.labels(option) == {"a": "2"}


def test_newer_asks_and_keeps_what_is_the_same(base: Base) -> None:
    assert base.labels() == base.labels("--pull=newer")
    assert base.asked()


def test_newer_does_with_what_is_here_where_no_registry_answers(
    project: Project, registry: FakeRegistry, base: Base
) -> None:
    project.built()
    registry.fault(status(503), path="/manifests/")
    done = project.built("--pull=newer")
    assert f"503 Service Unavailable; building on the {base.name} here" in done.err.replace(" (as told)", "")
    assert project.build("--pull").code == 4


def test_newer_fails_where_neither_has_it(project: Project, registry: FakeRegistry, base: Base) -> None:
    registry.fault(status(404), path="/manifests/")
    assert project.build("--pull=newer").code == 4


@pytest.mark.parametrize("option", ["--pull=never", "--pull=missing"])
def test_what_was_pulled_is_built_on_without_a_request(
    project: Project, registry: FakeRegistry, base: Base, option: str
) -> None:
    project.dockerfile(f"FROM {base.name}\nRUN echo ran > /ran\n")
    assert project.command("pull", base.name).code == 0
    registry.seen.clear()
    assert project.image(option).text("ran") == "ran\n"
    assert not registry.seen


def test_never_names_the_image_that_is_not_here(project: Project, registry: FakeRegistry, base: Base) -> None:
    done = project.build("--pull=never")
    assert done.code == 2
    assert done.error.startswith("Dockerfile:1\n")
    assert f"no image {base.name} here" in done.error
    assert f"minibuild pull {base.name}" in done.error
    assert not registry.seen


def test_never_fetches_no_layer_of_a_base_that_is_known_by_its_documents(
    project: Project, registry: FakeRegistry, base: Base
) -> None:
    project.dockerfile(f"FROM {base.name}\nENV a=b\n")
    project.built()
    registry.seen.clear()
    project.built("--pull=never")
    project.dockerfile(f"FROM {base.name}\nRUN true\n")
    done = project.build("--pull=never")
    assert done.code == 2
    assert done.error.startswith("Dockerfile:2\n")
    assert f"of {base.name} is needed and not here" in done.error
    assert not registry.seen


def test_another_word_is_no_policy(project: Project) -> None:
    done = project.build("--pull=sometimes", text="FROM busybox\n")
    assert done.code == 2
    assert "--pull=sometimes is none of always, missing, newer, never" in done.error
