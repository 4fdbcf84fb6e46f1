"""What the pages say of the library is true: examples run, and every public name is described."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = (ROOT / "docs/library.md").read_text()
BUSYBOX = shutil.which("busybox", path="/bin:/usr/bin")

# Written by the reader of the page: what its examples build.
DOCKERFILE = """
FROM scratch AS final
ARG VERSION=0
COPY busybox /bin/cat
COPY greeting.txt /
"""
PRELUDE = """
import zipfile
from minibuild_example import open_zip

def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", LIBRARY, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    if BUSYBOX is None:
        pytest.fail("busybox-static is not installed") if os.environ.get("CI") else pytest.skip("no busybox")
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy(BUSYBOX, app / "busybox")
    (app / "greeting.txt").write_text("hello\n")
    (app / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def run(command, folder, **more):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **more},
    )


def test_the_examples_run_one_after_the_other(folder):
    examples = [block for block in blocks("python") if "Contract" not in block]
    assert len(examples) >= 8
    done = run(["-c", "\n".join(examples)], folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sha256:[0-9a-f]{64} \[False, False\]$", done.stdout, re.MULTILINE)
    assert "COPY greeting.txt /: cached" in done.stdout
    assert "-> " in done.stdout and "nothing" in done.stdout


def test_the_example_of_a_contract_is_a_suite_that_passes(tmp_path):
    (suite,) = [block for block in blocks("python") if "Contract" in block]
    (tmp_path / "test_zip.py").write_text(PRELUDE + suite)
    plugin = str(ROOT / "examples/plugin")
    path = os.pathsep.join([plugin, os.environ.get("PYTHONPATH", "")])
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_zip.py"]
    done = run(command, tmp_path, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"[5-9] passed", done.stdout)


def test_what_needs_a_daemon_is_python_too():
    before = blocks("python before")
    assert len(before) >= 4
    for block in before:
        compile(block, "docs/library.md", "exec")


def test_the_entry_points_it_shows_are_those_of_the_example():
    (shown,) = blocks("toml")
    real = tomllib.loads((ROOT / "examples/plugin/pyproject.toml").read_text())
    assert tomllib.loads(shown)["project"]["entry-points"] == real["project"]["entry-points"]


def test_the_reference_is_what_the_docstrings_say():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs/make_api.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (ROOT / "docs/api.md").read_text() == made.page(), "run docs/make_api.py"


def test_every_public_name_is_described_in_the_reference():
    import minibuild_store

    import minibuild
    from minibuild import plugins

    text = (ROOT / "docs/api.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL))
    names = {*minibuild.__all__, *plugins.__all__, *minibuild_store.__all__}
    assert names <= sections.keys()
    words = {name: re.sub(r"```.*?```", "", sections[name], flags=re.DOTALL).strip() for name in names}
    assert not [name for name, said in words.items() if not said]
