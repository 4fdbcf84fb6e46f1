"""The cases as data: a text file a case, and how its files are laid out on disk.

A case file begins with comment lines (``# ...``) and options, one a line:

    arg NAME=VALUE         a build argument
    target NAME            the stage to build
    label NAME=VALUE
    platform OS/ARCH
    file PATH              the Dockerfile's path in the context
    context NAME=VALUE     a named context: ``named/x`` (a folder of the case), ``base:NAME``, ``{http}/...``
    secret ID              a secret, its value in the section ``secrets/ID``
    network MODE           of every RUN
    needs WORD             root, ids, xattr: left out where it is missing

Then sections, each a file: ``-- PATH [ATTRIBUTE...] --`` and its content. `PATH` is ``Dockerfile``,
``ctx/...`` (the build context), ``named/...``, ``secrets/...``, ``http/...`` (served at ``{http}``) or
``git/NAME/...`` (a repository of one commit at ``{http}/NAME.git``; its .gitmodules may name another as
``url = ../NAME.git``, after its ``path``); %20 stands for a space. Attributes:

    PATH/                  a folder
    -> TARGET              a symbolic link        = PATH       a hard link to a section before it
    fifo  socket           special files          mode=0755    mtime=1200000000
    bare                   without the last newline
    escapes                \\n, \\x00 and the like are read
    repeat=N               content N times
    xattr=NAME=VALUE       an extended attribute
    tar=gz                 an archive, a line a member: ``TYPE MODE UID:GID PATH [-> TARGET] [| CONTENT]``
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import socket
import tarfile
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"
INPUT_TIME = 1_200_000_000
ARCHIVE_TIME = 1_300_000_000

_SECTION = re.compile(r"-- (.+) --\n?\Z")
_TYPES = {
    "dir": tarfile.DIRTYPE,
    "file": tarfile.REGTYPE,
    "link": tarfile.SYMTYPE,
    "hard": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
}
_TWO_FIELDS = 2


@dataclass(frozen=True)
class Section:
    path: str
    attributes: tuple[str, ...]
    content: str

    def attribute(self, name: str) -> str | None:
        """The value of ``name=value``, or None."""
        return next((a.partition("=")[2] for a in self.attributes if a.startswith(f"{name}=")), None)

    def after(self, word: str) -> str | None:
        """What follows `word` among the attributes, or None."""
        if word not in self.attributes:
            return None
        return self.attributes[self.attributes.index(word) + 1]


@dataclass(frozen=True)
class Case:
    key: str
    options: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

    def all(self, option: str) -> list[str]:
        return [value for name, value in self.options if name == option]

    def one(self, option: str, default: str = "") -> str:
        return next(iter(self.all(option)), default)

    @property
    def golden(self) -> Path:
        return CASES / f"{self.key}.json"


def load_cases() -> list[Case]:
    return [load_case(path) for path in sorted(CASES.glob("*/*.case"))]


def load_case(path: Path) -> Case:
    """Read one case file; raises `ValueError` for what it does not understand."""
    options: list[tuple[str, str]] = []
    sections: list[Section] = []
    content: list[str] = []
    header: list[str] | None = None
    for line in path.read_text("utf-8", "surrogateescape").splitlines(keepends=True):
        match = _SECTION.match(line)
        if match:
            if header is not None:
                sections.append(Section(header[0], tuple(header[1:]), "".join(content)))
            header, content = [word.replace("%20", " ") for word in match[1].split(" ")], []
        elif header is not None:
            content.append(line)
        elif line.strip() and not line.startswith("#"):
            name, _, value = line.strip().partition(" ")
            options.append((name, value))
    if header is None:
        raise ValueError(f"{path}: no section")
    sections.append(Section(header[0], tuple(header[1:]), "".join(content)))
    return Case(str(path.relative_to(CASES).with_suffix("")), tuple(options), tuple(sections))


def lay_out(case: Case, folder: Path, *, http: str = "") -> None:
    """Write the sections of `case` below `folder`; ``{http}`` in a Dockerfile becomes `http`."""
    (folder / "ctx").mkdir(parents=True)
    times: list[tuple[Path, int]] = []
    for section in case.sections:
        path = folder / ("ctx/Dockerfile" if section.path == "Dockerfile" else section.path)
        for parent in reversed(path.parents):
            if parent.is_relative_to(folder) and not parent.exists():
                parent.mkdir()
                times.append((parent, INPUT_TIME))
        _write(section, path, folder, http)
        mtime = section.attribute("mtime")
        times.append((path, int(mtime) if mtime else INPUT_TIME))
    for path, mtime in reversed(times):
        os.utime(path, (mtime, mtime), follow_symlinks=False)
    os.utime(folder / "ctx", (INPUT_TIME, INPUT_TIME))


def _write(section: Section, path: Path, folder: Path, http: str) -> None:
    target, original = section.after("->"), section.after("=")
    if section.path.endswith("/"):
        path.mkdir(exist_ok=True)
    elif target is not None:
        path.symlink_to(target)
        return
    elif original is not None:
        os.link(folder / original, path)
        return
    elif "fifo" in section.attributes:
        os.mkfifo(path)
    elif "socket" in section.attributes:
        with socket.socket(socket.AF_UNIX) as listener:
            descriptor = os.open(path.parent, os.O_PATH)  # socket paths are short
            try:
                listener.bind(f"/proc/self/fd/{descriptor}/{path.name}")
            finally:
                os.close(descriptor)
    else:
        path.write_bytes(_content(section, http if section.path.endswith("Dockerfile") else ""))
    mode = section.attribute("mode")
    path.chmod(int(mode, 8) if mode else 0o755 if section.path.endswith("/") else 0o644)
    for attribute in section.attributes:
        if attribute.startswith("xattr="):
            _, name, value = attribute.split("=", 2)
            os.setxattr(path, name, value.encode().decode("unicode_escape").encode("latin-1"))


def _content(section: Section, http: str) -> bytes:
    packing = section.attribute("tar")
    if packing is not None:
        return archive(section.content, packing)
    text = section.content.removesuffix("\n") if "bare" in section.attributes else section.content
    text = text.replace("{http}", http) if http else text
    if "escapes" in section.attributes:
        data = text.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    else:
        data = text.encode("utf-8", "surrogateescape")
    return data * int(section.attribute("repeat") or 1)


def archive(description: str, packing: str) -> bytes:
    """A tar archive from its members' lines, packed by ``none``, ``gz``, ``bz2``, ``xz`` or ``zst``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for line in description.splitlines():
            head, _, content = line.partition(" | ")
            kind, mode, owner, path, *rest = head.split(" ")
            member = tarfile.TarInfo(path.rstrip("/") if kind == "dir" else path)
            member.type, member.mode, member.mtime = _TYPES[kind], int(mode, 8), ARCHIVE_TIME
            member.uid, member.gid = (int(number) for number in owner.split(":"))
            for word in rest:
                if word.startswith("mtime="):
                    member.mtime = int(word[6:])
                elif word.startswith("xattr="):
                    _, name, value = word.split("=", 2)
                    member.pax_headers[f"SCHILY.xattr.{name}"] = value.encode().decode("unicode_escape")
            if "->" in rest:
                member.linkname = rest[rest.index("->") + 1]
            if kind == "char":
                member.devmajor, member.devminor = 1, 3
            data = content.encode() + b"\n" if kind == "file" else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return pack(buffer.getvalue(), packing)


def pack(data: bytes, packing: str) -> bytes:
    match packing:
        case "none":
            return data
        case "gz":
            return gzip.compress(data, mtime=0)
        case "bz2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
        case "zst":
            import zstandard

            return zstandard.ZstdCompressor().compress(data)
    raise ValueError(packing)
