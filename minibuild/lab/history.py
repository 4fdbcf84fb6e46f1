"""A git repository's history, read by plumbing: commits, trees, and what each blob is by content.

Trees and blobs are known by git's own ids, so whatever a commit did not change is never read again.
Nothing is checked out and nothing is written to the repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO

from minibuild.errors import UsageError
from minibuild.values import NamedTuple

_CHUNK = 1 << 20
_FOLDER = b"40000"
_SECONDS = 60
"""How long git may take to list what it is asked for."""


class Commit(NamedTuple):
    """A commit; `time` is the committer's, in seconds since the epoch, `tree` the id of its root folder."""

    id: str
    time: int
    tree: bytes
    subject: str


class Node(NamedTuple):
    """What a tree says of a name: git's mode (``100644``, ``40000``, ...) and the object's id (hex)."""

    mode: bytes
    id: bytes

    @property
    def is_folder(self) -> bool:
        return self.mode == _FOLDER


class Blob(NamedTuple):
    """A file's content: `size` in bytes and its SHA-256 (hex)."""

    size: int
    sha256: str


class History:
    """One repository, read by one long-lived ``git cat-file``. Not for several threads at once."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._git("rev-parse", "--git-dir")
        self._process: subprocess.Popen[bytes] | None = None
        self._trees: dict[bytes, dict[bytes, Node]] = {}
        self._blobs: dict[bytes, Blob] = {}
        self.digests: dict[bytes, str] = {}
        """The SHA-256 (hex) of every blob that was looked at, by its id."""

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def commits(self, span: str = "HEAD", limit: int = 0) -> list[Commit]:
        """The first-parent commits of `span` (``A..B``, or a revision), oldest first; the last `limit`.

        Raises `UsageError` where there are none.
        """
        if span.startswith("-"):
            raise UsageError(f"--range {span!r} is not a range of commits", cure="Write it as A..B.")
        newest = [f"--max-count={limit}"] if limit else []
        text = self._git(
            "log", "--first-parent", "-z", "--format=%H%n%ct%n%T%n%s", *newest, span, "--"
        ).decode("utf-8", "replace")
        found = [_commit(record) for record in text.split("\0") if record]
        if not found:
            raise UsageError(f"there are no commits in {span}", cure="Write the range as OLDER..NEWER.")
        return found[::-1]

    def commit(self, revision: str) -> Commit:
        """The commit that `revision` names; raises `UsageError`."""
        return self.commits(revision, 1)[0]

    def _git(self, *arguments: str) -> bytes:
        command = ["git", "-C", str(self.repository), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, env=_environment(), timeout=_SECONDS, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise UsageError("git is not installed", cure="Install git.") from None
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"git {arguments[0]} did not finish in time", cure="Check the repository."
            ) from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["failed"]
            raise UsageError(
                f"{self.repository}: git says {said[0].removeprefix('fatal: ')}",
                cure="Check --git and --range.",
            )
        return done.stdout

    def tree(self, identity: bytes) -> dict[bytes, Node]:
        """The names in a folder."""
        known = self._trees.get(identity)
        if known is None:
            known = self._trees[identity] = _parsed(self.data(identity), len(identity) // 2)
        return known

    def blob(self, identity: bytes) -> Blob:
        known = self._blobs.get(identity)
        if known is None:
            digest = hashlib.sha256()
            size, output = self._ask(identity)
            left = size
            while left:
                data = output.read(min(left, _CHUNK))
                if not data:
                    raise _broken(identity)
                digest.update(data)
                left -= len(data)
            output.read(1)
            known = self._blobs[identity] = Blob(size, digest.hexdigest())
            self.digests[identity] = known.sha256
        return known

    def data(self, identity: bytes) -> bytes:
        """The bytes of an object."""
        size, output = self._ask(identity)
        data = output.read(size + 1)[:-1]
        if len(data) != size:
            raise _broken(identity)
        return data

    def find(self, root: bytes, path: bytes) -> Node | None:
        """What lies at `path` below the folder `root`; links are not followed."""
        node = Node(_FOLDER, root)
        for part in path.split(b"/") if path else ():
            if not node.is_folder:
                return None
            found = self.tree(node.id).get(part)
            if found is None:
                return None
            node = found
        return node

    def file(self, root: bytes, path: bytes) -> bytes | None:
        """The content of the regular file at `path`, None where there is none."""
        node = self.find(root, path)
        return self.data(node.id) if node is not None and node.mode.startswith(b"100") else None

    def _ask(self, identity: bytes) -> tuple[int, IO[bytes]]:
        if self._process is None:
            self._process = subprocess.Popen(
                ["git", "-C", str(self.repository), "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
            )
        asked, output = self._process.stdin, self._process.stdout
        assert asked is not None and output is not None
        asked.write(identity + b"\n")
        asked.flush()
        words = output.readline().split()
        if len(words) != 3:
            raise _broken(identity)
        return int(words[2]), output


def _environment() -> dict[str, str]:
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _commit(record: str) -> Commit:
    identity, time, tree, subject = record.split("\n", 3)
    return Commit(identity, int(time), tree.encode(), subject)


def _parsed(data: bytes, width: int) -> dict[bytes, Node]:
    """A tree object: mode, space, name, NUL, id in binary, over and over."""
    found: dict[bytes, Node] = {}
    at = 0
    while at < len(data):
        end = data.index(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        at = end + 1 + width
        found[name] = Node(mode, data[end + 1 : at].hex().encode())
    return found


def _broken(identity: bytes) -> UsageError:
    return UsageError(
        f"git lacks object {identity.decode()}", cure="Fetch all of the history: git fetch --unshallow."
    )
