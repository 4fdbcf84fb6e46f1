"""A tiny image of busybox-static, and a sandbox to run it in: real namespaces and mounts, no mocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minibuild.errors import SandboxError
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import ExitStatus, ProcessSpec, Rootfs

BUSYBOX = shutil.which("busybox", path="/bin:/usr/bin")

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/bin/false
app:x:1000:1001:An app:/home/app:/bin/sh
"""
GROUP = """\
root:x:0:
wheel:x:10:root,app
video:x:44:app
app:x:1001:
"""


@dataclass
class Ran:
    """What became of one process."""

    status: ExitStatus
    chunks: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def code(self) -> int:
        return self.status.code

    @property
    def out(self) -> str:
        return b"".join(data for fd, data in self.chunks if fd == 1).decode()

    @property
    def err(self) -> str:
        return b"".join(data for fd, data in self.chunks if fd == 2).decode()


@dataclass
class Box:
    """Runs shell commands in throw-away copies of an image."""

    sandbox: Sandbox
    image: Path
    folder: Path
    count: int = 0

    def rootfs(self, *lowers: Path) -> Rootfs:
        self.count += 1
        upper, work = self.folder / f"upper{self.count}", self.folder / f"work{self.count}"
        upper.mkdir()
        work.mkdir()
        return Rootfs(lowers or (self.image,), upper, work)

    def run(self, *argv: str, rootfs: Rootfs | None = None, **options: Any) -> Ran:
        how = {name: options.pop(name) for name in ("stdio", "cancel", "scratch") if name in options}
        options.setdefault("env", (("PATH", "/bin"),))
        chunks: list[tuple[int, bytes]] = []
        status = self.sandbox.run(
            rootfs or self.rootfs(),
            ProcessSpec(argv=argv, **options),
            output=lambda fd, data: chunks.append((fd, data)),
            **how,
        )
        return Ran(status, chunks)

    def sh(self, script: str, **options: Any) -> Ran:
        return self.run("/bin/sh", "-c", script, **options)


def make_image(folder: Path) -> Path:
    """A root file system of busybox and two small files."""
    assert BUSYBOX is not None
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/app"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for name in _APPLETS:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "tmp").chmod(0o1777)
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text(GROUP)
    return folder


_APPLETS = [
    "sh",
    "true",
    "false",
    "cat",
    "ls",
    "id",
    "env",
    "echo",
    "sleep",
    "head",
    "tail",
    "touch",
    "rm",
    "mv",
    "cp",
    "mkdir",
    "rmdir",
    "chown",
    "chmod",
    "stat",
    "hostname",
    "mount",
    "umount",
    "unshare",
    "ps",
    "kill",
    "wc",
    "grep",
    "sed",
    "tr",
    "sort",
    "find",
    "readlink",
    "ln",
    "dd",
    "df",
    "ip",
    "wget",
    "nc",
    "yes",
    "seq",
    "pwd",
    "test",
    "mknod",
    "setsid",
    "nohup",
    "tty",
    "date",
    "whoami",
    "su",
    "chroot",
    "uname",
]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    try:
        started = Sandbox.start()
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error.message}")
    with started:
        yield started


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if BUSYBOX is None:
        pytest.skip("busybox-static is not installed")
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    return make_image(folder)


@contextmanager
def boxed(sandbox: Sandbox, image: Path, folder: Path) -> Iterator[Box]:
    """A box whose folder is made here, and removed with what others' ids left in it."""
    folder.mkdir()
    yield Box(sandbox, image, folder)
    sandbox.remove(folder)


@pytest.fixture
def box(sandbox: Sandbox, image: Path, tmp_path: Path) -> Iterator[Box]:
    with boxed(sandbox, image, tmp_path / "box") as box:
        yield box


@pytest.fixture
def new_image(tmp_path: Path) -> Callable[[str], Path]:
    """Make another image, to be spoilt."""

    def make(name: str = "other") -> Path:
        folder = tmp_path / name
        folder.mkdir(mode=0o755)
        return make_image(folder)

    return make


def tree(folder: Path) -> list[str]:
    """Every path under `folder`, with a slash after folders."""
    found = []
    for base, folders, files in os.walk(folder):
        here = Path(base).relative_to(folder)
        found += [f"{here / name}/" for name in folders] + [str(here / name) for name in files]
    return sorted(found)
