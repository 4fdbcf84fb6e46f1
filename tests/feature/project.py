"""A build as a user sets it up: files, a store, the command line, and the image that comes of it."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import zstandard

import minibuild
from minibuild.cli.main import main

PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH")
MADE = "minibuild-test-"


@dataclass(frozen=True)
class Done:
    """How one command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error message, with the lines of source before it and the cure behind it."""
        lines = self.err.splitlines()
        found = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
        assert len(found) == 1, f"{len(found)} error messages:\n{self.err}"
        assert "Traceback" not in self.err, self.err
        first = found[0]
        while first and re.match(r"\S+:\d+$|-+$| *\d+ \|", lines[first - 1]):
            first -= 1
        return "\n".join(lines[first:])

    def step(self, words: str) -> str:
        """All that plain progress says of the step whose name has `words` in it."""
        numbers = {
            m[1] for m in re.finditer(r"^#(\d+) (?!\d|not cached).*" + re.escape(words), self.err, re.M)
        }
        assert len(numbers) == 1, f"{words}: {sorted(numbers)}\n{self.err}"
        number = numbers.pop()
        return "\n".join(line for line in self.err.splitlines() if line.startswith(f"#{number} "))

    def cached(self, words: str) -> bool:
        return self.step(words).endswith(" CACHED")

    @property
    def summary(self) -> tuple[int, int]:
        """Steps and hits of the closing line."""
        match = re.search(r"^(\d+) steps?, (\d+) cached", self.err, re.M)
        assert match is not None, self.err
        return int(match[1]), int(match[2])


@dataclass(frozen=True)
class File:
    """One entry of a root filesystem."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    mtime: int
    link: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        return self.data.decode()


class Image:
    """An image of an OCI layout, read with nothing of minibuild's."""

    def __init__(self, layout: Path, name: str = "") -> None:
        self.layout = layout
        entries = json.loads((layout / "index.json").read_bytes())["manifests"]
        key = "org.opencontainers.image.ref.name"
        entry = next(e for e in entries if not name or (e.get("annotations") or {}).get(key) == name)
        self.digest: str = entry["digest"]
        self.manifest: dict[str, Any] = json.loads(self.blob(self.digest))
        self.document: dict[str, Any] = json.loads(self.blob(self.manifest["config"]["digest"]))
        self.config: dict[str, Any] = self.document.get("config", {})

    def blob(self, digest: str) -> bytes:
        data = (self.layout / "blobs" / digest.replace(":", "/")).read_bytes()
        assert "sha256:" + hashlib.sha256(data).hexdigest() == digest
        return data

    @property
    def diff_ids(self) -> list[str]:
        found: list[str] = self.document["rootfs"]["diff_ids"]
        return found

    @property
    def history(self) -> list[str]:
        return [line["created_by"] for line in self.document["history"]]

    def tar(self, number: int) -> bytes:
        """Layer `number` (negative: from the top), uncompressed."""
        data = self.blob(self.manifest["layers"][number]["digest"])
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
                return stream.read()
        return data

    def layer(self, number: int) -> dict[str, File]:
        """The entries of one layer by path."""
        return dict(_entries(self.tar(number)))

    @property
    def files(self) -> dict[str, File]:
        """The root filesystem by path, without a slash in front."""
        merged: dict[str, File] = {}
        for number in range(len(self.manifest["layers"])):
            for path, file in _entries(self.tar(number)):
                folder, _, name = path.rpartition("/")
                if name == ".wh..wh..opq":
                    _drop(merged, folder + "/")
                elif name.startswith(".wh."):
                    hidden = f"{folder}/{name[4:]}".lstrip("/")
                    merged.pop(hidden, None)
                    _drop(merged, hidden + "/")
                else:
                    merged[path] = file
        return merged

    def text(self, path: str) -> str:
        return self.files[path].text


def _entries(data: bytes) -> Iterator[tuple[str, File]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            body = archive.extractfile(member) if member.isreg() or member.islnk() else None
            content = body.read() if body is not None else b""
            owner = (member.uid, member.gid)
            mtime = int(member.mtime)
            yield (
                member.name.strip("/"),
                File(member.type, member.mode & 0o7777, owner, mtime, member.linkname, content),
            )


def _drop(merged: dict[str, File], prefix: str) -> None:
    for path in [path for path in merged if path.startswith(prefix)]:
        del merged[path]


class Project:
    """A context folder, a store and a temporary folder below `root`; `bases` is an OCI layout."""

    def __init__(self, root: Path, bases: Path) -> None:
        self.root = root
        self.bases = bases
        self.context = root / "context"
        self.store = root / "store"
        self.temporary = root / "temporary"
        for folder in (self.context, self.temporary, root / "home"):
            folder.mkdir()
        self.environment = {
            "MINIBUILD_ROOT": str(self.store),
            "TMPDIR": str(self.temporary),
            "HOME": str(root / "home"),
            "DOCKER_CONFIG": str(root / "home"),
        }
        self._images = 0

    def write(self, path: str, content: str | bytes = "", *, mode: int = 0o644) -> Path:
        file = self.context / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        return file

    def dockerfile(self, text: str, path: str = "Dockerfile") -> Path:
        return self.write(path, textwrap.dedent(text).lstrip("\n"))

    def base(self, name: str = "busybox") -> list[str]:
        """Options that make `name` one of the base images."""
        return ["--build-context", f"{name}=oci-layout://{self.bases}:{name}"]

    def command(self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Done:
        """Run the command line in this process."""
        out, err = io.BytesIO(), io.BytesIO()
        code = 0
        streams = {"stdout": io.TextIOWrapper(out, "utf-8"), "stderr": io.TextIOWrapper(err, "utf-8")}
        with (
            mock.patch.dict(os.environ, self.variables(environment), clear=True),
            mock.patch("tempfile.tempdir", str(self.temporary)),
            mock.patch.object(sys, "argv", ["minibuild", *arguments]),
            mock.patch.multiple(sys, stdin=io.TextIOWrapper(io.BytesIO(stdin)), **streams),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "'click", DeprecationWarning)  # typer's affair
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            for stream in streams.values():
                stream.flush()
        return Done(code, out.getvalue().decode(), err.getvalue().decode())

    def build(self, *options: str, text: str = "", context: str = "", **others: Any) -> Done:
        """``minibuild build``, with the plain base at hand; `text` is written as the Dockerfile first."""
        if text:
            self.dockerfile(text)
        return self.command("build", *self.base(), *options, context or str(self.context), **others)

    def built(self, *options: str, text: str = "", **others: Any) -> Done:
        """A build that is to succeed."""
        done = self.build(*options, text=text, **others)
        assert done.code == 0, done.err
        return done

    def image(self, *options: str, text: str = "", **others: Any) -> Image:
        """The image that a build gives."""
        self._images += 1
        folder = self.root / f"image{self._images}"
        self.built(*options, "-o", f"type=oci,tar=false,dest={folder}", text=text, **others)
        return Image(folder)

    def process(self, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Done:
        """Run the command line in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "minibuild", *arguments],
            input=stdin,
            capture_output=True,
            env=self.variables(environment),
            timeout=120,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Begin a command in a process of its own."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        command = [sys.executable, "-m", "minibuild", *arguments]
        return subprocess.Popen(command, env=self.variables(), **options)

    def variables(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """The environment of commands."""
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        kept["PYTHONPATH"] = os.pathsep.join(
            [str(Path(minibuild.__file__).parents[1]), str(Path(minibuild.__file__).parents[1] / "store")]
        )
        return {**kept, **self.environment, **(more or {})}

    def litter(self) -> list[str]:
        """What must not be there once no build runs: temporary files, mounts and processes."""
        found = [f"temporary file {path}" for path in self.temporary.iterdir()]
        running, locks = self.store / "running-v1", self.store / "locks-v1"
        if running.is_dir():
            found += [f"running-v1/{name}" for name in os.listdir(running) if name[0] != "."]
        if locks.is_dir():
            found += [f"lock {path}" for path in locks.iterdir() if _is_held(path)]
        found += [f"mount {line}" for line in _lines("/proc/self/mountinfo") if str(self.root) in line]
        found += [f"process {number}" for number in processes(str(self.store))]
        return found


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def processes(words: str) -> list[int]:
    """Processes, other than this, whose command line, folders or mounts name `words`."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = Path("/proc", entry, "cmdline").read_bytes().decode("utf-8", "replace")
            if words in command or any(words in line for line in _lines(f"/proc/{entry}/mountinfo")):
                found.append(int(entry))
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8", "replace").splitlines()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process at once, without a chance to tidy up, and wait for it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def files_below(folder: Path) -> list[Path]:
    """The regular files below `folder` that this user may read; subordinate users' own are left out."""
    found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return [path for path in found if os.access(path, os.R_OK) and path.is_file() and not path.is_symlink()]
