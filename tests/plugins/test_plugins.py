"""A package that adds a cache type, an output type and an executor, used from the command line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.feature.project import Done, Project

TEXT = "FROM busybox\nCOPY a.txt /a\nRUN cat /a /a > /b\n"


def build(project: Project, *options: str, text: str = TEXT) -> Done:
    project.dockerfile(text)
    project.write("a.txt", "a")
    return project.process("build", *project.base(), *options, str(project.context))


def test_a_cache_type_of_theirs_is_written_and_read(installed: Project, tmp_path: Path) -> None:
    shelf = f"type=shelf,path={tmp_path / 'shelf'}"
    done = build(installed, "--cache-to", f"{shelf},mode=max", "--cache-from", shelf)
    assert done.code == 0, done.err
    assert (tmp_path / "shelf/records").is_file()
    installed.environment["MINIBUILD_ROOT"] = str(installed.root / "other")
    again = build(installed, "--cache-from", shelf)
    assert again.code == 0 and again.summary == (2, 2), again.err


def test_an_output_type_of_theirs_is_written(installed: Project, tmp_path: Path) -> None:
    done = build(installed, "-o", f"type=zip,dest={tmp_path / 'files.zip'}")
    assert done.code == 0, done.err
    with zipfile.ZipFile(tmp_path / "files.zip") as archive:
        assert archive.read("b") == b"aa" and "bin/busybox" in archive.namelist()


def test_an_executor_of_theirs_runs_the_commands(installed: Project) -> None:
    text = "FROM busybox\nRUN test $(ls /sys/class/net | wc -l) = 1\n"
    done = build(installed, "--isolation", "offline", text=text)
    assert done.code == 0, done.err
    assert "NOTE: offline, in " in done.err


def test_wrong_options_are_told_before_anything_is_built(installed: Project) -> None:
    done = build(installed, "-o", "type=zip,tar=false")
    assert done.code == 2 and "type=zip takes dest=FILE" in done.error and "#1" not in done.err


def test_what_is_installed_is_named_where_a_name_is_wrong(installed: Project) -> None:
    assert "Did you mean type=zip?" in build(installed, "-o", "type=zipp,dest=x").error
    assert "shelf" in build(installed, "--cache-from", "type=shelv,path=x").error
    assert "did you mean offline?" in build(installed, "--isolation", "ofline").error


def test_a_package_that_is_broken_is_named_with_its_fault(installed: Project, site: Path) -> None:
    (site / "minibuild_example.py").write_text("import a_module_that_nobody_has\n")
    done = build(installed, "-o", "type=zip,dest=x.zip")
    assert done.code == 2
    assert "'zip' of the package minibuild-example cannot be loaded" in done.error
    assert "a_module_that_nobody_has" in done.error


def test_names_that_are_built_in_are_not_looked_for_among_packages(installed: Project) -> None:
    """Reading what is installed takes longer than a cached build."""
    script = (
        "import sys; from minibuild.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'importlib.metadata' not in sys.modules\n"
    )
    build(installed)
    cache = f"type=local,src={installed.root / 'cache'}"
    output = f"type=oci,dest={installed.root / 'image.tar'}"
    command = ["build", *installed.base(), "--cache-from", cache, "-o", output, str(installed.context)]
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        env=installed.variables(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
