"""What the README shows is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

from minibuild.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_library_example_builds_the_hello_image(tmp_path):
    (example,) = blocks("python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sha256:[0-9a-f]{64} \[False\]$", done.stdout, re.MULTILINE)


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert named and named <= targets


def test_every_command_it_shows_exists():
    shown = {
        line.split()[2]
        for block in blocks("console")
        for line in block.splitlines()
        if "$ minibuild " in line
    }
    assert shown and shown <= set(COMMANDS)


def test_every_file_it_links_to_exists():
    links = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert links
    assert not [target for target in links if not (ROOT / target.partition("#")[0]).exists()]


def test_every_build_option_it_names_exists():
    done = subprocess.run(
        [sys.executable, "-m", "minibuild", "build", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    named = set(re.findall(r"`(--[a-z-]+)", README))
    assert named and not [option for option in named if option not in done.stdout]
