"""Images from archives and folders into this store: OCI layouts, and what ``docker save`` writes."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.engine.images import LocalImages
from minibuild.engine.layout_context import layout_image
from minibuild.errors import UsageError
from minibuild.oci.image import ResolvedImage
from minibuild.oci.manifest import Manifest
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    from tarfile import TarFile

# What makes a layout; an archive's other files get no name of their own on the disk.
_OF_A_LAYOUT: Final = re.compile(r"(?:oci-layout|index\.json|blobs/[a-z0-9]+/[0-9a-f]+)\Z")
_CHUNK: Final = 1 << 20

_Loaded = tuple[Reference, Digest]


def load(
    store: Store, source: Path | BinaryIO, name: Reference | None = None
) -> list[tuple[Reference, Digest]]:
    """Read an OCI layout (folder or archive) or docker archive; the names it brought, and image ids.

    `source` is a path, or a binary stream that an archive is read from. `name` takes the place of the
    names written in it, which only an archive of one image allows.
    """
    if isinstance(source, Path) and source.is_dir():
        return _load_layout(store, source, name)
    with store.workspace() as folder:
        files = _unpacked(source, folder)
        if "oci-layout" in files:
            return _load_layout(store, folder / "layout", name)
        return _load_docker(store, files, name)


@contextmanager
def opened_layout(store: Store, path: Path) -> Iterator[Path]:
    """The OCI layout at `path` as a folder for a `with` block; raises `UsageError` for what is no archive."""
    if path.is_dir():
        yield path
        return
    with store.workspace() as folder:
        _unpacked(path, folder)
        yield folder / "layout"


def _unpacked(source: Path | BinaryIO, folder: Path) -> dict[str, Path]:
    """An archive's files by name; what makes a layout lies below ``layout``, the rest by number."""
    import tarfile

    what = source if isinstance(source, Path) else "standard input"
    try:
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            # read once, from front to back: docker save writes to pipes, and people compress what it writes
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="r|*"))
            return _files(archive, folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UsageError(f"cannot read {what}: {error}", cure="Name an OCI layout or archive.") from None


def _files(archive: TarFile, folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    links: dict[str, str] = {}
    for number, member in enumerate(archive):
        name = posixpath.normpath(member.name)
        if member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.islnk():
            links[name] = posixpath.normpath(member.linkname)
        content = archive.extractfile(member) if member.isreg() else None
        if content is None:
            continue
        path = folder / (f"layout/{name}" if _OF_A_LAYOUT.match(name) else str(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
        files[name] = path
    # docker writes equal layers as links to one of them
    return files | {name: files[target] for name, target in links.items() if target in files}


def _load_layout(store: Store, folder: Path, name: Reference | None) -> list[_Loaded]:
    platform = Platform.of_host()
    written = _written_names(folder) if name is None else []
    if written:
        return [
            _tagged(store, found, layout_image(store, f"{folder}@{digest}", platform))
            for found, digest in written
        ]
    image = layout_image(store, str(folder), platform)
    return [_tagged(store, _needed(name), image)]


def _written_names(folder: Path) -> list[_Loaded]:
    try:
        entries = json.loads((folder / "index.json").read_bytes()).get("manifests") or []
    except (OSError, ValueError):
        return []  # the layout is read next, and says what is wrong with it
    return [
        (Reference.parse(text), Digest.parse(entry["digest"]))
        for entry in entries
        if (text := (entry.get("annotations") or {}).get("io.containerd.image.name"))
    ]


def _load_docker(store: Store, files: Mapping[str, Path], name: Reference | None) -> list[_Loaded]:
    from minibuild.engine import docker_archive

    if docker_archive.TABLE not in files:
        raise UsageError(
            "the archive holds neither an OCI layout nor docker's manifest.json",
            cure="Take one that docker save, podman save or minibuild save wrote.",
        )
    images = docker_archive.images(store, files)
    if name is not None and len(images) != 1:
        raise UsageError(f"the archive holds {len(images)} images", cure="Leave -t out.")
    return [
        _tagged(store, found, image)
        for names, image in images
        for found in ([_needed(name)] if name is not None or not names else names)
    ]


def _needed(name: Reference | None) -> Reference:
    if name is None:
        raise UsageError("the image has no name", cure="Give it one with -t.")
    return name


def _tagged(store: Store, name: Reference, image: ResolvedImage) -> _Loaded:
    image_id = Manifest.parse(store.blobs.get(image.digest)).config.digest
    LocalImages(store).tag(name, image, image_id)
    return name, image_id
