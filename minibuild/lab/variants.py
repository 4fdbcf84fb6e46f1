"""What is compared: Dockerfiles, ignore files, rules of eviction, one machine or many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.errors import UsageError
from minibuild.lab.history import History
from minibuild.lab.shelf import Room
from minibuild.lab.view import Snapshot
from minibuild.values import NamedTuple


class Written(NamedTuple):
    """A file that a build reads: `path` in each commit, or `text` once for all of them.

    `label` is what tables call it, `name` what errors do.
    """

    label: str
    name: str
    path: str = ""
    text: bytes | None = None

    def at(self, snapshot: Snapshot) -> bytes | None:
        """The file's bytes; None where the commit has no such file."""
        return self.text if self.text is not None else snapshot.file(self.path)


class Variant(NamedTuple):
    """One way to build every commit. Without `ignore` each commit's own ignore file counts.

    `shared` begins every build on a fresh machine that has a shared cache.
    """

    name: str
    dockerfile: Written
    ignore: Written | None = None
    room: Room = Room()
    shared: bool = False

    def ignore_file(self, snapshot: Snapshot) -> IgnoreFile | None:
        """The ignore file of a build; None without one."""
        found = self._ignore(snapshot)
        return None if found is None else IgnoreFile.parse(*found)

    def ignore_text(self, snapshot: Snapshot) -> bytes:
        """The ignore file's bytes, b"" without one."""
        found = self._ignore(snapshot)
        return b"" if found is None else found[0]

    def _ignore(self, snapshot: Snapshot) -> tuple[bytes, str] | None:
        """As in a build: what was asked for, ``<Dockerfile>.dockerignore``, ``.dockerignore``."""
        if self.ignore is not None:
            text = self.ignore.at(snapshot)
            return None if text is None else (text, self.ignore.name)
        for path in (f"{self.dockerfile.path or 'Dockerfile'}.dockerignore", ".dockerignore"):
            text = snapshot.file(path)
            if text is not None:
                return text, path.rpartition("/")[2]
        return None


def written(text: str, history: History, last: Snapshot, option: str) -> Written:
    """What ``-f`` or ``--ignorefile`` means: a path in every commit, ``REVISION:PATH``, or a file on disk.

    A path that the last commit has is taken from each commit, unless it begins with ``./`` or ``/``. Raises
    `UsageError`.
    """
    disk = Path(text)
    if not text.startswith(("./", "../", "/")) and last.file(text) is not None:
        return Written(text, text, path=text)
    if disk.is_file():
        return Written(text, text, text=_read(disk, option))
    revision, colon, path = text.partition(":")
    if colon and revision and path:
        snapshot = Snapshot(history, history.commit(revision), last.folder, git_folder=False)
        data = snapshot.file(path)
        if data is not None:
            return Written(text, path, text=data)
    raise UsageError(
        f"{option} {text}: neither the last commit nor this machine has such a file",
        cure="Name a path in the repository, REVISION:PATH, or a file on disk.",
    )


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}", cure="Name a readable file.") from None


def variants(
    dockerfiles: Sequence[Written],
    ignores: Sequence[Written | None],
    rooms: Sequence[Room],
    shared: Sequence[bool],
) -> list[Variant]:
    """Every combination; each is named by what sets it apart from the others."""
    found = []
    # a shared cache holds the last build's steps and no more, so a cap means nothing to it
    places = [(room, False) for room in rooms if False in shared] + [(Room(), True)] * (True in shared)
    for dockerfile, ignore, (room, far) in product(dockerfiles, ignores, places):
        words = [
            dockerfile.label if len(dockerfiles) > 1 else "",
            (f"ignore {ignore.label}" if ignore else "ignore as committed") if len(ignores) > 1 else "",
            str(room) if len(rooms) > 1 and not far else "",
            ("registry" if far else "local") if len(shared) > 1 else "",
        ]
        name = ", ".join(word for word in words if word) or dockerfile.label
        found.append(Variant(name, dockerfile, ignore, room, far))
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise UsageError("two variants are the same", cure="Give every -f, --ignorefile and --size once.")
    return found
