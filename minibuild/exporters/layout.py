"""An OCI image layout as a folder (image-spec, image-layout.md).

Blobs come first, ``index.json`` last and by rename: who reads the folder meanwhile sees the old
images or the new, and a run that is killed leaves blobs that the next one uses. Nothing is
flushed to the disk: an output can be made again from the store, which is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from minibuild_store import stopping
from minibuild_store.lock import try_flock

from minibuild.errors import OutputError
from minibuild.exporters.assemble import Assembly
from minibuild.exporters.gather import local_files
from minibuild.exporters.image import BlobSource, ExportResult
from minibuild.exporters.index import (
    INDEX_FILE,
    LAYOUT_BYTES,
    LAYOUT_FILE,
    merged_index,
    named,
)
from minibuild.exporters.target import TEMPORARY, Writer, replacing, reporting, temporary_name
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
_OURS = frozenset({LAYOUT_FILE, INDEX_FILE, "blobs", "lost+found"})


def write_layout(
    assembly: Assembly,
    dest: Path,
    *,
    blobs: BlobSource,
    names: Sequence[Reference] = (),
    kind: str = "oci",
) -> ExportResult:
    """Write the image into folder `dest`, which is made, or is empty, or is a layout that is added to.

    Blobs are hard links to the store's files where the filesystem allows it, else share their
    extents, else are copied; one that is there already with the right size is left alone where it cannot
    be such a link.
    Without names the image is tagged ``latest``, as BuildKit does. Raises `OutputError`; then
    the folder is as it was.
    """
    files = local_files(assembly.layers, blobs)
    entries = named(assembly.root, names, unnamed_tag="latest")
    with reporting(dest):
        made_folder = not dest.is_dir()
        dest.mkdir(parents=True, exist_ok=True)
        try:
            with _locked(dest):
                folder = _Folder(dest)
                try:
                    for layer in assembly.layers:
                        folder.link(files[layer.digest], layer)
                    for document in assembly.documents:
                        folder.write(document.descriptor, document.data)
                    folder.commit(entries)
                except BaseException:
                    folder.undo()
                    raise
        except BaseException:
            if made_folder:
                with suppress(OSError):
                    dest.rmdir()
            raise
    return ExportResult(kind, assembly.root, assembly.config, str(dest), tuple(names))


@contextmanager
def _locked(dest: Path) -> Iterator[None]:
    """Keep other exports to the folder waiting; the lock goes with the process."""
    fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network filesystems have no locks; then the last index wins
            while not try_flock(fd):
                stopping.pause(stopping.POLL)
        yield
    finally:
        os.close(fd)


class _Folder:
    """A layout being added to; `undo` takes back what was added."""

    def __init__(self, dest: Path) -> None:
        self._dest = str(dest)
        self._made: list[str] = []
        self._index = self._check()
        self._algorithms: set[str] = set()

    def _check(self) -> bytes | None:
        """The index that is there; raises `OutputError` where the folder is somebody else's."""
        present = os.listdir(self._dest)
        for name in present:
            if name.startswith(TEMPORARY):  # of a run that was killed: we hold the lock
                with suppress(OSError):
                    os.unlink(f"{self._dest}/{name}")
        if LAYOUT_FILE in present:
            self._check_version()
            with suppress(FileNotFoundError):
                return Path(self._dest, INDEX_FILE).read_bytes()
            return None
        foreign = sorted(name for name in present if name not in _OURS and not name.startswith(TEMPORARY))
        if foreign or INDEX_FILE in present:
            raise OutputError(
                f"cannot write {self._dest}: it is not empty and is no OCI image layout"
                f" (it holds {(foreign or [INDEX_FILE])[0]})",
                cure="Name an empty or new folder with dest=, or leave tar=false out to write one file.",
            )
        return None

    def _check_version(self) -> None:
        path = Path(self._dest, LAYOUT_FILE)
        try:
            document = json.loads(path.read_bytes())
            version = document["imageLayoutVersion"]
        except (ValueError, TypeError, KeyError):
            version = "unknown"
        if version != "1.0.0":
            raise OutputError(
                f"cannot write {self._dest}: its {LAYOUT_FILE} is of version {version}, want 1.0.0",
                cure="Name another folder with dest=, or remove this one.",
            )

    def link(self, source: Path, descriptor: Descriptor) -> None:
        """Put a blob of the store here."""
        target = self._target(descriptor)
        if _size(target) == descriptor.size:
            self._relink(source, target)
            return
        try:
            os.link(source, target)
        except FileExistsError:  # of another size, so damaged
            self._replace(target, source, descriptor)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._replace(target, source, descriptor)
        self._made.append(target)

    def _relink(self, source: Path, target: str) -> None:
        """Have `target` be the store's file where both are on one file system: that one was looked after."""
        here, held = os.stat(target), os.stat(source)
        if here.st_dev != held.st_dev or here.st_ino == held.st_ino:
            return
        temporary = f"{self._dest}/{temporary_name()}"
        with suppress(OSError):  # no more links, or none allowed: it has the right size
            os.link(source, temporary)
            os.replace(temporary, target)

    def _replace(self, target: str, source: Path, descriptor: Descriptor) -> None:
        with self._becoming(target, 0o444) as fd:
            if not _clone(source, fd):
                Writer(fd).copy(source, descriptor)

    def write(self, descriptor: Descriptor, data: bytes) -> None:
        """Put a blob made here."""
        target = self._target(descriptor)
        if _size(target) == descriptor.size:
            return
        # writable, unlike the store's: skopeo writes manifests over themselves, in place
        with self._becoming(target, 0o644) as fd:
            Writer(fd).write(data)
        self._made.append(target)

    def commit(self, entries: Sequence[Descriptor]) -> None:
        """Name the image: from here on readers see it."""
        index = f"{self._dest}/{INDEX_FILE}"
        data = merged_index(self._index, entries, where=index)
        layout = f"{self._dest}/{LAYOUT_FILE}"
        if _size(layout) is None:
            with self._becoming(layout, 0o644) as fd:
                Writer(fd).write(LAYOUT_BYTES)
            self._made.append(layout)
        with self._becoming(index, 0o644) as fd:
            Writer(fd).write(data)

    def undo(self) -> None:
        for path in reversed(self._made):
            with suppress(OSError):
                os.rmdir(path) if path.endswith("/") else os.unlink(path)

    def _target(self, descriptor: Descriptor) -> str:
        algorithm = descriptor.digest.algorithm
        if algorithm not in self._algorithms:
            for folder in (f"{self._dest}/blobs/", f"{self._dest}/blobs/{algorithm}/"):
                with suppress(FileExistsError):
                    os.mkdir(folder)
                    self._made.append(folder)
            self._algorithms.add(algorithm)
        return f"{self._dest}/blobs/{algorithm}/{descriptor.digest.hex}"

    def _becoming(self, target: str, mode: int) -> AbstractContextManager[int]:
        """A file that becomes `target` when the block ends well."""
        return replacing(f"{self._dest}/{temporary_name()}", target, mode)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _clone(source: Path, dest: int) -> bool:
    """Whether `dest` now shares the extents of `source`."""
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(dest, _FICLONE, fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
