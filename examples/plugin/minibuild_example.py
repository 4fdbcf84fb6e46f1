"""Three small things that minibuild lacks: a shelf of layers, zip archives, and RUN without a network.

minibuild build --cache-to type=shelf,path=DIR -o type=zip,dest=files.zip --isolation offline .
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minibuild import MinibuildError, UsageError
from minibuild.plugins import (
    Blobs,
    CacheDocument,
    CacheServices,
    CacheSpec,
    Descriptor,
    ExitStatus,
    ExportResult,
    ExportServices,
    Image,
    ProcessSpec,
    Progress,
    Rootfs,
    Sandbox,
    Saved,
    Upload,
    output_file,
    read_document,
    replace,
    write_tar,
)

_BEGINNING = (1980, 1, 1, 0, 0, 0)  # zip archives know no earlier time


def open_shelf(spec: CacheSpec, services: CacheServices) -> Shelf:
    """``type=shelf,path=DIR``."""
    if not spec.options.get("path"):
        raise UsageError("type=shelf has no path=", cure="Write type=shelf,path=DIR.")
    return Shelf(Path(spec.options["path"]))


class Shelf:
    """A shared cache in a folder: a file for the records and one for each layer."""

    reference = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> CacheDocument | None:
        try:
            return read_document((self._folder / "records").read_bytes())
        except FileNotFoundError:
            return None

    def fetch(self, descriptor: Descriptor, blobs: Blobs, progress: Progress) -> None:
        file = self._folder / descriptor.digest.hex
        if not file.exists():
            raise MinibuildError(f"{self._folder} has no {descriptor.digest}")
        with blobs.writer() as writer:
            writer.write(file.read_bytes())
            writer.commit(expect=descriptor.digest, size=descriptor.size)
        progress(descriptor, descriptor.size)

    def save(self, document: CacheDocument, uploads: Sequence[Upload], progress: Progress) -> Saved:
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [one for one in uploads if not (self._folder / one.descriptor.digest.hex).exists()]
        for upload in missing:
            with upload.opener() as source:
                self._put(upload.descriptor.digest.hex, source.read())
        self._put("records", document.dump())
        return Saved(len(missing), len(uploads) - len(missing))

    def _put(self, name: str, data: bytes) -> None:
        """Under another name first: whoever reads finds the old file or the new one."""
        temporary = self._folder / f".{name}.{os.urandom(4).hex()}"
        temporary.write_bytes(data)
        temporary.rename(self._folder / name)

    def close(self) -> None:
        pass


def open_zip(options: Mapping[str, str]) -> Zip:
    """``-o type=zip,dest=FILE``."""
    if set(options) != {"dest"} or not options["dest"]:
        raise UsageError("type=zip takes dest=FILE and nothing else", cure="Write -o type=zip,dest=FILE.")
    return Zip(Path(options["dest"]))


class Zip:
    """The regular files of an image as a zip archive."""

    def __init__(self, dest: Path) -> None:
        self._dest = dest

    def export(self, images: Sequence[Image], services: ExportServices) -> ExportResult:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as packed:
            files = Path(folder, "files.tar")
            write_tar(images, files, blobs=services.blobs, store=services.store)
            with tarfile.open(files) as archive, zipfile.ZipFile(packed, "w") as made:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        info = zipfile.ZipInfo(member.name, _BEGINNING)
                        info.external_attr = member.mode << 16
                        made.writestr(info, content.read())
            packed.seek(0)
            with output_file(self._dest) as writer:
                writer.write(packed.read())
        return ExportResult("zip", dest=str(self._dest))


class Offline:
    """``--isolation offline``: minibuild's own sandbox, in which no RUN has a network."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def describe(self) -> str:
        return f"offline, in {self._sandbox.mode}"

    def run(self, rootfs: Rootfs, spec: ProcessSpec, **how: Any) -> ExitStatus:
        return self._sandbox.run(rootfs, replace(spec, network="none"), **how)

    def close(self) -> None:
        pass  # the sandbox is minibuild's to close
