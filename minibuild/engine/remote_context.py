"""Build contexts that are no folder: archives, git repositories, files behind a URL.

An archive becomes a layer of the store, once for its content: nothing of it is unpacked on this machine,
owners and links are kept as BuildKit keeps them, and it cannot get out of anything.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from minibuild_store.errors import BlobDamaged

from minibuild.cache.steps import StepRecord
from minibuild.context.folder import FolderView
from minibuild.context.place import Nothing, Placement
from minibuild.context.veil import veiled
from minibuild.credentials import redacted
from minibuild.engine.fetch import fetch
from minibuild.engine.fetched import Fetched
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.plaintext import read_text_at
from minibuild.engine.session import Session
from minibuild.engine.sources import ContextTree
from minibuild.engine.writing import write_layer
from minibuild.errors import DockerfileError, LayerError, UsageError
from minibuild.layers.entry import Entry, Kind
from minibuild.plan.giturl import parse_git_url
from minibuild.plan.steps import GitItem, UrlItem
from minibuild.values import NamedTuple, replace

_NAME = "context"  # what BuildKit calls a file that it fetched as a context
_MODE = 0o600
_CHUNK = 1 << 20


class Remote(NamedTuple):
    """A context that was fetched: a folder (a git checkout) or a tree of the store's layers.

    `text` is the Dockerfile where the context was nothing else; `modified` the time of the commit or file
    in seconds, where its server tells.
    """

    folder: Path | None = None
    tree: Filesystem | None = None
    text: bytes | None = None
    modified: int | None = None


def open_url(session: Session, address: str) -> Remote:
    """Fetch the context at `address`. Raises a `MinibuildError`."""
    git = _git(session, address)
    if git is not None:
        return _checkout(session, git, address)
    with session.step(f"[internal] load remote build context {redacted(address)}"):
        fetched = _sound(session, address)
        modified = _modified(session, fetched)
        if _is_archive(fetched.path):
            tree = archive_tree(session, fetched.path)
            if tree is not None:
                return Remote(tree=tree, modified=modified)
        text = read_text_at(fetched.path, redacted(address))
        return Remote(tree=_file_tree(session, fetched), text=text, modified=modified)


def open_named(session: Session, name: str, address: str) -> Remote:
    """Like `open_url` for a named context, where BuildKit leaves archives as they are, as a file."""
    git = _git(session, address)
    if git is not None:
        return _checkout(session, git, address)
    with session.step(f"[context {name}] {redacted(address)}"):
        fetched = _fetch(session, address)
        return Remote(tree=_file_tree(session, fetched), modified=_modified(session, fetched))


def time_of(session: Session, item: UrlItem | GitItem) -> int | None:
    """When what ADD fetches was made, in seconds; None where nothing tells. Raises a `MinibuildError`."""
    fetched = fetch(session, item)
    return fetched.commit_time if isinstance(item, GitItem) else _modified(session, fetched)


def _modified(session: Session, fetched: Fetched) -> int | None:
    """What the server says, or else the newest file of an archive, in seconds."""
    if fetched.mtime_ns:
        return fetched.mtime_ns // 1_000_000_000
    tree = archive_tree(session, fetched.path) if _is_archive(fetched.path) else None
    if tree is None:
        return None
    rows = ContextTree(tree, session.layers, session.store).view.walk(b"")
    times = [row.entry.mtime_ns for row in rows if row.entry.kind is Kind.FILE]
    return max(times) // 1_000_000_000 if times else None


def open_archive(session: Session, path: Path, shown: str) -> Remote:
    """The archive in a file of this machine, called `shown` in messages."""
    with session.step(f"[internal] load build context {shown}"):
        tree = archive_tree(session, path)
    if tree is None:
        raise UsageError(
            f"the build context {shown} is neither a folder nor a tar archive",
            cure="Name the folder that holds the files to build from, as in: minibuild build .",
        )
    return Remote(tree=tree)


def open_text(address: str, session: Session) -> bytes:
    """The file at `address`, as for a Dockerfile behind a URL."""
    with session.step(f"[internal] load build definition from {redacted(address)}"):
        return read_text_at(_sound(session, address).path, redacted(address))


def _git(session: Session, address: str) -> GitItem | None:
    if address.startswith("github.com/"):
        address = f"https://{address}"
        head, hash_, fragment = address.partition("#")
        if not head.endswith(".git"):
            address = f"{head}.git{hash_}{fragment}"
    item = parse_git_url(address, local=True)
    keep = session.request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "").lower() in ("1", "t", "true")
    return replace(item, keep_git_dir=True) if item is not None and keep else item


def _checkout(session: Session, item: GitItem, address: str) -> Remote:
    from minibuild.engine.git import fetch_git

    with session.step(f"[internal] load git source {redacted(address)}"):
        fetched = fetch_git(session, item)
    assert fetched.tree is not None
    return Remote(folder=Path(os.fsdecode(fetched.tree.root)), modified=fetched.commit_time)


def _fetch(session: Session, address: str) -> Fetched:
    from minibuild.engine.download import fetch_url

    try:
        return fetch_url(session, UrlItem(address, _NAME))
    except DockerfileError as error:
        raise UsageError(error.message, cure="Check the address, the network and the proxy.") from None


def _sound(session: Session, address: str) -> Fetched:
    """As `_fetch`, to be read now: what was fetched earlier is what it was, or is fetched again."""
    fetched = _fetch(session, address)
    assert fetched.blob is not None
    try:
        session.store.blobs.check(fetched.blob)
    except BlobDamaged:
        return _fetch(session, address)
    return fetched


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")) or _is_header(head)


def _is_header(head: bytes) -> bool:
    """Whether `head` is a tar header: its checksum says so, as in formats without a magic number."""
    if len(head) < 512:
        return False
    try:
        stated = int(head[148:156].strip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return stated == sum(head[:148]) + 8 * 32 + sum(head[156:]) and any(head)


def archive_tree(session: Session, path: Path) -> Filesystem | None:
    """The entries of the tar archive at `path`, compressed or not, as one layer; None where it is none."""
    from minibuild.engine.archive import extract_archive
    from minibuild.engine.waiting import Waiting

    def write() -> Layer | None:
        placement = Placement(Nothing(), scratch=session.store.scratch)
        with session.working(), ExitStack() as stack:
            waiting = Waiting(session.store, stack)
            try:
                done = extract_archive(
                    os.fsencode(path), "/", placement, waiting, below=_nothing_below, rename=veiled
                )
            except (LayerError, EOFError, OSError) as error:
                raise UsageError(
                    f"cannot read the context archive: {error}", cure="Make or fetch it again."
                ) from None
            return write_layer(session, placement.finish(), waiting=waiting) if done else None

    with path.open("rb") as file, session.working():
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _kept(session, f"archive {digest}", write)


def _nothing_below(path: bytes) -> bytes:
    raise UsageError(f"cannot read the context archive: it lacks {os.fsdecode(path)}, which a link names")


def _file_tree(session: Session, fetched: Fetched) -> Filesystem:
    """A filesystem that holds one file."""

    def write() -> Layer:
        assert fetched.blob is not None
        session.store.blobs.check(fetched.blob)
        placement = Placement(Nothing())
        entry = Entry(b"", Kind.FILE, _MODE, size=fetched.size, mtime_ns=fetched.mtime_ns)
        placement.put_file(_NAME, "/", entry, where=os.fsencode(fetched.path))
        return write_layer(session, placement.finish())

    tree = _kept(session, f"file {fetched.identity}", write)
    assert tree is not None
    return tree


def _kept(session: Session, identity: str, write: Callable[[], Layer | None]) -> Filesystem | None:
    """The layer of a context, from the cache of steps or written."""
    key = hashlib.sha256(f"context 2 {session.epoch} {identity}".encode()).hexdigest()
    with session.store.lock(f"step {key}", waiting=session.check):
        record = session.cache.get(key)
        if record is None or not session.layers.present(record.layer, record.stamp):
            start = time.monotonic()
            layer = write()
            if layer is None:
                return None
            stamp = session.layers.stamp(layer.descriptor.digest)
            seconds = time.monotonic() - start
            record = StepRecord(layer, time.time(), seconds, "[internal] load build context", stamp)
            session.cache.put(key, record)
    return Filesystem().extended(record.layer)


def read_file(session: Session, tree: Filesystem, name: str) -> bytes | None:
    """A file of `tree`, links followed inside it; None where it is not there."""
    files = ContextTree(tree, session.layers, session.store)
    path = files.view.resolve(os.fsencode(os.path.normpath(f"/{name}").lstrip("/")))
    entry = files.view.entry(path)
    if entry is None or entry.kind is not Kind.FILE:
        return None
    where = next(files.view.walk(path)).where
    with files.extracted(iter([where])) as extracted:
        return read_text_at(extracted[where], name)


def read_file_below(folder: Path, name: str) -> bytes | None:
    """A file of `folder`, links followed inside it; None where it is not there."""
    view = FolderView(str(folder))
    path = view.resolve(os.fsencode(os.path.normpath(f"/{name}").lstrip("/")))
    entry = view.entry(path)
    if entry is None or entry.kind is not Kind.FILE:
        return None
    return read_text_at(Path(os.fsdecode(view.path(path))), name)
