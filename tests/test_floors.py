"""Imports run one way: cli, engine, (plan, context, sandbox, registry, exporters), layers, oci, store."""

import ast
from pathlib import Path

import minibuild_store
import pytest

import minibuild

ROOT = Path(minibuild.__file__).parent
STORE = Path(minibuild_store.__file__).parent

MAY_IMPORT = {
    "credentials": set(),
    "errors": set(),
    "events": set(),
    "entrypoints": {"errors"},
    "refusals": set(),
    "threads": {"errors", "refusals"},
    "oci": {"errors", "store"},
    "dockerfile": {"errors"},
    "layers": {"errors", "oci", "store", "threads"},
    "plan": {"errors", "dockerfile", "oci", "store"},
    "context": {"errors", "dockerfile", "layers", "store", "threads"},
    "sandbox": {"errors", "entrypoints", "events", "layers", "refusals", "store"},
    "registry": {"errors", "dockerfile", "oci", "store", "threads"},
    "exporters": {"errors", "dockerfile", "entrypoints", "layers", "oci", "registry", "store"},
    "cache": {"errors", "entrypoints", "layers", "oci", "registry", "store", "threads"},
    "report": {"errors", "cache"},
    "engine": {
        "errors", "events", "dockerfile", "plan", "context", "sandbox", "registry", "exporters", "cache",
        "layers", "oci", "refusals", "store", "threads",
    },
    "lab": {
        "errors", "events", "dockerfile", "plan", "context", "cache", "engine", "layers", "oci", "report",
        "store",
    },
    "cli": {
        "errors", "events", "cache", "dockerfile", "engine", "entrypoints", "exporters", "lab", "oci",
        "refusals", "registry", "report", "sandbox", "store", "threads",
    },
    "plugins": {"cache", "exporters", "oci", "sandbox", "store"},
    "testing": {"errors", "cache", "exporters", "layers", "oci", "sandbox", "store"},
}  # fmt: skip


def imported(path):
    """Every module of ours that `path` imports, in functions and for type checkers alike."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules(floor):
    folder = ROOT / floor
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{floor}.py"]


@pytest.mark.parametrize("floor", sorted(MAY_IMPORT))
def test_a_floor_imports_only_from_below(floor):
    wrong = []
    for path in modules(floor):
        for name in imported(path):
            parts = name.split(".")
            below = (
                "store"
                if parts[0] == "minibuild_store"
                else parts[1]
                if parts[0] == "minibuild" and parts[1:]
                else ""
            )
            if below and below not in MAY_IMPORT[floor] | {floor, "values", "credentials"}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_store_imports_the_standard_library_only():
    import sys

    either = {"_sha2", "_sha256"}  # the one from 3.12 on, the other before
    wrong = [
        f"{path.name} imports {name}"
        for path in STORE.rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names | either | {"minibuild_store"}
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for path in [*ROOT.rglob("*.py"), *STORE.rglob("*.py")]:
        base = STORE.parent if STORE in path.parents else ROOT.parent
        name = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {found for found in imported(path) if found.startswith("minibuild")}
    graph.pop("minibuild", None)  # the public face names the modules it loads
    done, open_ = set(), []

    def visit(name):
        if name in open_:
            pytest.fail(" -> ".join([*open_[open_.index(name) :], name]))
        if name in done or name not in graph:
            return
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        open_.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)
