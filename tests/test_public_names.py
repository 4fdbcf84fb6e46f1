"""The public face: names are listed, can be had, and cost nothing until they are used."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import minibuild_store
import pytest

import minibuild
from minibuild import plugins

LAZY = [minibuild, minibuild_store]


def newly_loaded(statement):
    """The modules that a statement loads in a fresh interpreter."""
    script = (
        f"import sys, json; before = set(sys.modules)\n{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", [*LAZY, plugins])
def test_public_names_are_sorted_and_can_be_had(module):
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", LAZY)
def test_each_public_name_has_a_home(module):
    assert set(module._HOMES) == set(module.__all__)


@pytest.mark.parametrize("module", LAZY)
def test_type_checkers_see_the_same_names_as_programs(module):
    tree = ast.parse(Path(module.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == module._HOMES


@pytest.mark.parametrize("module", LAZY)
def test_a_name_that_there_is_not_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


@pytest.mark.parametrize("name", ["minibuild", "minibuild_store"])
def test_importing_the_package_loads_no_more_than_itself(name):
    assert newly_loaded(f"import {name}") <= {name, "__future__", "typing", "collections.abc"} | BY_TYPING


def test_what_a_first_build_needs_brings_no_client_and_no_sandbox():
    heavy = {
        "asyncio", "dataclasses", "http.client", "importlib.metadata", "pydantic", "ssl", "urllib3", "typer",
        "zstandard", "minibuild.sandbox.client", "minibuild.registry.client", "minibuild.layers.writer",
    }  # fmt: skip
    names = "Builder, BuildRequest, Secret, Store, build, parse_output"
    assert not heavy & newly_loaded(f"from minibuild import {names}")


BY_TYPING = newly_loaded("import typing")
