"""The process ends quickly, and says and leaves everything all the same."""

import os
import subprocess
import sys

import pytest


def run(*arguments, **options):
    command = (sys.executable, "-m", "minibuild", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_what_was_printed_arrives():
    done = run("--version")
    assert (done.returncode, done.stdout[:10]) == (0, "minibuild ")


def test_the_exit_code_is_that_of_the_command(tmp_path):
    done = run("build", str(tmp_path / "gone"))
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_what_runs_at_exit_still_runs(tmp_path):
    script = (
        "import atexit, sys; from minibuild.cli.main import process;"
        "atexit.register(print, 'last words'); sys.argv[1:] = ['--version']; process()"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith("last words\n")


INTERRUPTED = """
import signal, sys
from minibuild.cli.main import process

class Finder:
    def find_spec(self, *_):
        sys.meta_path.remove(self)
        signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["build", "."]
process()
"""


def test_an_interrupt_before_a_command_begins_says_nothing():
    done = subprocess.run((sys.executable, "-c", INTERRUPTED), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_output_that_cannot_be_written_is_not_taken_for_success():
    with open("/dev/full", "wb") as full:
        command = (sys.executable, "-m", "minibuild", "--version")
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=os.environ)
    assert done.returncode != 0


def closed(streams, *arguments, **options):
    """`run`, with those of the standard streams 0, 1 and 2 closed."""
    shut = "".join(f"os.close({number});" for number in streams)
    code = f"import os, sys;{shut}os.execv(sys.executable, sys.argv[1:])"
    command = (sys.executable, "-c", code, sys.executable, "-m", "minibuild", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_result_for_a_closed_output_is_an_error():
    done = closed([1], "--version")
    assert (done.returncode, done.stderr) == (
        5,
        "ERROR: standard output is closed\nLeave it open, or let it go to /dev/null.\n",
    )


@pytest.mark.parametrize("streams", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_build_needs_no_standard_streams(tmp_path, streams):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    (tmp_path / "file").write_text("text")
    store = tmp_path / "store"
    environment = {**os.environ, "MINIBUILD_ROOT": str(store)}
    written = tmp_path / "id"
    done = closed(streams, "build", "--iidfile", str(written), str(tmp_path), env=environment)
    assert done.returncode == 0, done.stderr
    assert written.read_text().startswith("sha256:")


def test_what_cannot_be_printed_is_told_with_a_cure():
    with open("/dev/full", "wb") as full:
        command = (sys.executable, "-m", "minibuild", "--help")
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("ERROR: no space left on device\nFree some space")


def test_too_few_open_files_are_told_with_what_to_raise():
    script = (
        "import errno, os, sys, minibuild.cli.exits as exits\n"
        "with exits.reported():\n    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), 'file')"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "ERROR: file: too many open files\nRaise the limit of open files: ulimit -n 1024.\n"


def test_a_path_that_is_too_long_is_told_in_one_readable_line(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=folder)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    environment = {**os.environ, "MINIBUILD_ROOT": str(tmp_path / "store")}
    done = run("build", "-q", str(tmp_path), env=environment)
    subprocess.run(("rm", "-rf", tmp_path / ("d" * 200)), check=True)
    assert done.returncode == 1
    said, cure = done.stderr.splitlines()
    assert said.startswith("ERROR: /") and said.endswith("…: file name too long")
    assert len(said) < 300 and ".dockerignore" in cure
