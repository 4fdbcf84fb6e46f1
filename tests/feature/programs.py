"""Programs of this machine, with the libraries they need, for an image of a test."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.feature.conftest import lacking


def copy_program(name: str, folder: Path) -> None:
    """Put program `name` and its shared libraries into `folder`, each under its own path."""
    path = shutil.which(name, path="/usr/bin:/bin")
    if path is None:
        lacking(f"{name} is not installed")
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for file in (path, *re.findall(r"(/\S+) \(0x", listed)):
        target = folder / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
