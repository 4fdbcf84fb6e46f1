"""The example's package, as pip would have installed it, and builds that use it."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.feature.conftest import bases, project, sandbox_works
from tests.feature.project import Project

__all__ = ["bases", "project", "sandbox_works"]

PACKAGE = Path(__file__).parents[2] / "examples/plugin"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with the example in it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    about = folder / f"minibuild_example-{project['version']}.dist-info"
    about.mkdir(parents=True)
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines: list[str] = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    about.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(PACKAGE / "minibuild_example.py", folder)
    return folder


@pytest.fixture
def installed(project: Project, site: Path) -> Project:
    """A project in whose environment the example is installed."""
    path = project.variables()["PYTHONPATH"]
    project.environment["PYTHONPATH"] = os.pathsep.join([str(site), path])
    project.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return project


@pytest.fixture
def example(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's module in this process."""
    monkeypatch.syspath_prepend(str(site))
    module = import_module("minibuild_example")
    yield module
    del sys.modules["minibuild_example"]
