"""The process ends quickly, and says and leaves everything all the same."""

import os
import subprocess
import sys


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
