"""The build contexts, made from nothing but busybox-static; equal on every machine."""

from __future__ import annotations

import base64
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20


class NoBase(Exception):
    """This machine has no statically linked busybox to make a base image of."""


def base(folder: Path) -> None:
    """A root filesystem of one busybox with the links a shell script needs."""
    found = shutil.which("busybox")
    if found is None:
        raise NoBase("no busybox here: install busybox-static")
    (folder / "bin").mkdir(parents=True)
    for name in ("etc", "dev", "proc", "sys", "run", "tmp"):  # or builders leave behind what they make
        (folder / name).mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (folder / "etc" / name).touch()
    shutil.copy(os.path.realpath(found), folder / "bin/busybox")
    (folder / "bin/busybox").chmod(0o755)
    for name in ("sh", "sleep", "cat", "ls", "true"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")


def files(folder: Path, count: int, size: int, *, seed: int) -> None:
    """`count` files of about `size` bytes on average, 50 a folder; text that packs 4:3."""
    source = random.Random(seed)
    for number in range(count):
        inside = folder / f"d{number // 2500}" / f"e{number // 50 % 50}"
        if not number % 50:
            inside.mkdir(parents=True, exist_ok=True)
        length = max(1, int(source.expovariate(1 / size)))
        text = base64.b64encode(source.randbytes(length * 3 // 4 + 3))[:length]
        (inside / f"f{number}.txt").write_bytes(text)


def big_file(path: Path, mib: int) -> None:
    """A file of `mib` MiB that does not repeat within any window of a compressor."""
    source = random.Random(7)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(base64.b64encode(source.randbytes(MIB * 3 // 4))[:MIB])


def dockerfile(folder: Path, *lines: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")


def cached_seven(folder: Path, scale: float) -> Path:
    dockerfile(
        folder,
        "FROM base",
        "ENV MODE=production",
        "WORKDIR /app",
        "COPY conf /etc/app.conf",
        "RUN true",
        "COPY src/ /app/",
        'CMD ["/bin/sh"]',
    )
    files(folder / "src", int(2000 * scale), 4000, seed=1)
    (folder / "conf").write_text("mode = production\n")
    return folder / "src/d0/e0/f7.txt"


def small_files(folder: Path, scale: float) -> Path:
    dockerfile(folder, "FROM base", "COPY data/ /data/")
    files(folder / "data", int(20000 * scale), 8650, seed=2)
    return folder / "data/d0/e1/f77.txt"


def one_big_file(folder: Path, scale: float) -> None:
    dockerfile(folder, "FROM base", "COPY big /big")
    big_file(folder / "big", max(1, int(1024 * scale)))


def twenty_runs(folder: Path, scale: float) -> None:
    dockerfile(folder, "FROM base", *["RUN :"] * 20)


def sixty_steps(folder: Path, scale: float) -> Path:
    lines = ["FROM base"]
    (folder / "tiny").mkdir(parents=True)
    for number in range(20):
        (folder / f"tiny/{number}.txt").write_text(f"file {number}\n")
        lines += [f"ENV NAME{number}=value", f"LABEL label{number}=value", f"COPY tiny/{number}.txt /tiny/"]
    dockerfile(folder, *lines)
    return folder / "tiny/10.txt"


def eight_stages(folder: Path, scale: float) -> None:
    lines = []
    for number in range(8):
        lines += [f"FROM base AS part{number}", f"RUN sleep 1 && echo {number} > /part{number}"]
    lines += ["FROM base", *(f"COPY --from=part{n} /part{n} /parts/" for n in range(8))]
    dockerfile(folder, *lines)


Maker = Callable[[Path, float], Path | None]
