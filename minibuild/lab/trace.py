"""Histories as JSON, and how they become a git repository, which is what a replay reads.

    {"format": "minibuild-trace", "version": 1,
     "commits": [{"time": 1700000000, "subject": "...", "files": {"PATH": CONTENT, "GONE": null}}]}

CONTENT is a text, ``{"text": "...", "mode": "755"}``, ``{"link": "TARGET"}`` or ``{"size": 1000, "seed": 7}``
for bytes made from the path and the seed. Each commit names only what it changes. Times are in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minibuild.errors import UsageError
from minibuild.values import NamedTuple

FORMAT = "minibuild-trace"
VERSION = 1
Content = str | dict[str, Any] | None

_WHO = "minibuild lab <lab@localhost>"


class Edit(NamedTuple):
    """One commit of a trace: the files that it changes, None for those that it removes."""

    time: int
    files: dict[str, Content]
    subject: str = ""


def dump_trace(edits: Sequence[Edit]) -> str:
    commits = [{"time": one.time, "subject": one.subject, "files": one.files} for one in edits]
    return json.dumps({"format": FORMAT, "version": VERSION, "commits": commits}, indent=1) + "\n"


def read_trace(path: Path) -> list[Edit]:
    """Raises `UsageError`."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError("another format or version")
        return [
            Edit(int(c["time"]), dict(c["files"]), str(c.get("subject", ""))) for c in document["commits"]
        ]
    except OSError as error:
        raise UsageError(f"--trace {path}: {error.strerror}", cure="Name a readable file.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--trace {path} is not a trace: {error}", cure="minibuild lab synth --trace FILE writes one."
        ) from None


def write_repository(folder: Path, edits: Sequence[Edit]) -> None:
    """Make a bare git repository at `folder`, which must not exist, with one branch, ``main``.

    The same edits give the same commits. Raises `UsageError`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} already exists", cure="Name a new folder, or an empty one.")
    try:
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(folder))
        command = ["git", "-C", str(folder), "fast-import", "--quiet", "--done"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=_clean()
        ) as process:
            assert process.stdin is not None and process.stderr is not None
            try:
                for chunk in _stream(edits):
                    process.stdin.write(chunk)
                process.stdin.close()
            except BrokenPipeError:
                pass  # git says why
            said = process.stderr.read().decode("utf-8", "replace")
        if process.returncode:
            raise UsageError(f"git fast-import failed: {said.strip()}", cure="Check the paths of the trace.")
    except FileNotFoundError:
        raise UsageError("git is not installed", cure="Install git.") from None


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=_clean(), timeout=60)
    if done.returncode:
        raise UsageError(f"git says {done.stderr.strip()}", cure="Name another folder.")


def _clean() -> dict[str, str]:
    """The environment without what would point git at another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _stream(edits: Sequence[Edit]) -> Iterator[bytes]:
    """The edits as ``git fast-import`` takes them."""
    for number, edit in enumerate(edits, 1):
        yield b"commit refs/heads/main\nmark :%d\n" % number
        yield f"committer {_WHO} {edit.time} +0000\n".encode()
        yield _data((edit.subject or f"commit {number}").encode())
        if number > 1:
            yield b"from :%d\n" % (number - 1)
        for path, content in edit.files.items():
            name = _quoted(path)
            if content is None:
                yield b"D %b\n" % name
                continue
            mode, data = _entry(path, content)
            yield b"M %b inline %b\n%b" % (mode, name, _data(data))
    yield b"done\n"


def _data(data: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(data), data)


def _quoted(path: str) -> bytes:
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..", ".git") for part in parts):
        raise UsageError(f"{path!r} is not a path for a file of a repository", cure="Correct the trace.")
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"%b"' % escaped.encode("utf-8", "surrogateescape")


def _entry(path: str, content: str | dict[str, Any]) -> tuple[bytes, bytes]:
    if isinstance(content, str):
        return b"100644", content.encode()
    if "link" in content:
        return b"120000", str(content["link"]).encode()
    mode = b"100755" if str(content.get("mode", "")).endswith("755") else b"100644"
    if "text" in content:
        return mode, str(content["text"]).encode()
    return mode, _filling(path, str(content.get("seed", 0)), int(content.get("size", 0)))


def _filling(path: str, seed: str, size: int) -> bytes:
    """`size` bytes that depend on the path and the seed."""
    line = hashlib.sha256(f"{path}\n{seed}".encode("utf-8", "surrogateescape")).hexdigest().encode() + b"\n"
    return (line * (size // len(line) + 1))[:size]
