"""Subordinate ids of an ordinary user, and mapping them with newuidmap and newgidmap.

Formats: subuid(5), user_namespaces(7). Runs in the client, outside the namespace.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from minibuild.errors import SandboxError
from minibuild.values import NamedTuple

_FIRST: Final = 100_000
_RANGES_WANTED: Final = 65536
_MIN_IDS: Final = 1000
_PLACES: Final = ("/usr/bin", "/usr/local/bin", "/run/wrappers/bin")  # where PATH says nothing of them


class IdRange(NamedTuple):
    """`size` ids from `first` on that a user may map into a namespace of their own."""

    first: int
    size: int


def parse_ranges(text: str, names: Sequence[str]) -> tuple[IdRange, ...]:
    """The ranges that lines of `text` give to any of `names` (a login and a uid); bad lines are skipped."""
    ranges = []
    for line in text.splitlines():
        parts = line.split("#", 1)[0].strip().split(":")
        if len(parts) == 3 and parts[0] in names and parts[1].isdigit() and parts[2].isdigit():
            found = IdRange(int(parts[1]), int(parts[2]))
            if found.size and found not in ranges:
                ranges.append(found)
    return tuple(ranges)


def login_names(uid: int) -> tuple[str, ...]:
    """What /etc/subuid may call the user: login name, and uid in digits."""
    try:
        return pwd.getpwuid(uid).pw_name, str(uid)
    except KeyError:
        return (str(uid),)


def read_ranges(file: Path, uid: int) -> tuple[IdRange, ...]:
    """The ranges of the user in /etc/subuid or /etc/subgid; none where the file is missing."""
    return parse_ranges(read_text(file), login_names(uid))


def read_text(file: Path) -> str:
    """The text of /etc/subuid or /etc/subgid, "" where the file is missing."""
    try:
        return file.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def free_range(texts: Sequence[str]) -> int:
    """The first id of a range that no line of `texts` (of /etc/subuid, /etc/subgid) gives to anybody."""
    first = _FIRST
    taken = [parse_ranges(line, line.split(":")[:1]) for text in texts for line in text.splitlines()]
    for begin, size in sorted(found for ranges in taken for found in ranges):
        if begin < first + _RANGES_WANTED:
            first = max(first, begin + size)
    return first


def id_map(own: int, ranges: Sequence[IdRange]) -> list[tuple[int, int, int]]:
    """Rows of a map: 0 is the user, 1 and up the ranges one after the other (inside, outside, count)."""
    rows = [(0, own, 1)]
    inside = 1
    for first, size in ranges:
        rows.append((inside, first, size))
        inside += size
    return rows


def require_ranges(uid: int, subuid: Sequence[IdRange], subgid: Sequence[IdRange]) -> None:
    """Raise `SandboxError` where a user has too few subordinate ids."""
    names = login_names(uid)
    for file, ranges in (("/etc/subuid", subuid), ("/etc/subgid", subgid)):
        if sum(found.size for found in ranges) < _MIN_IDS:
            first = free_range([read_text(Path("/etc/subuid")), read_text(Path("/etc/subgid"))])
            span = f"{first}-{first + _RANGES_WANTED - 1}"
            raise SandboxError(
                f"user {names[0]} has no subordinate ids in {file}, so files of other users "
                "cannot be made in a build",
                cure=f"As root: usermod --add-subuids {span} --add-subgids {span} {names[0]}",
            )


def require_tools() -> tuple[str, str]:
    """Paths of newuidmap and newgidmap; raises `SandboxError`."""
    found = []
    for name in ("newuidmap", "newgidmap"):
        folders = (*os.environ.get("PATH", "").split(":"), *_PLACES)
        paths = (f"{folder}/{name}" for folder in folders if folder)
        path = next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)
        if path is None:
            raise SandboxError(
                f"{name} is not installed; it maps the user's subordinate ids",
                cure="Install it: apt-get install uidmap (shadow-utils on Fedora, shadow-uidmap on Alpine).",
            )
        found.append(path)
    return found[0], found[1]


def map_all(pid: int) -> None:
    """Map every id there is here to itself in the new user namespace of process `pid`.

    Needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP. Raises `SandboxError`.
    """
    for name in ("uid_map", "gid_map"):
        try:
            rows = [line.split() for line in Path("/proc/self", name).read_text().splitlines()]
            text = "".join(f"{first} {first} {size}\n" for first, _outside, size in rows)
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise SandboxError(f"the ids cannot be mapped ({name}): {error.strerror}") from None


def write_maps(
    pid: int, uid: int, gid: int, subuid: Sequence[IdRange], subgid: Sequence[IdRange], tools: tuple[str, str]
) -> None:
    """Map the ids of the new user namespace of process `pid`; raises `SandboxError`."""
    import subprocess  # an ordinary user's alone

    for tool, own, ranges in ((tools[0], uid, subuid), (tools[1], gid, subgid)):
        numbers = [str(number) for row in id_map(own, ranges) for number in row]
        done = subprocess.run([tool, str(pid), *numbers], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(
                f"{tool} refused the ids of this user: {done.stderr.strip() or f'exit {done.returncode}'}",
                cure=f"{tool} must be setuid root (chmod u+s {tool}) or carry the capability, no_new_privs"
                " must be off, and the ranges must be the user's own in /etc/subuid and /etc/subgid.",
            )
