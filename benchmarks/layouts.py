"""OCI layouts read with the standard library: is what one builder made what another made?

    layouts.py LAYOUT FIRST     print how LAYOUT differs from what FIRST remembers, or let it remember

A process of its own, since a large one would pass its size on to what it starts (ru_maxrss, getrusage(2)).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import zstandard

Files = dict[str, list[Any]]


def manifest_digest(layout: Path) -> str:
    """The digest of the one manifest in `layout`."""
    index = json.loads((layout / "index.json").read_bytes())
    return str(index["manifests"][0]["digest"])


def merged(layout: Path) -> Files:
    """Path to type, mode, owner, link and content's SHA-256 of the image's files; no times."""
    found: Files = {}
    for media_type, blob in _layers(layout):
        with _opened(blob, media_type) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            _apply(archive, found)
    return found


def difference(ours: Files, theirs: Files) -> str:
    """The first paths that differ, or "" where nothing does."""
    paths = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    return "; ".join(f"/{path}: {ours.get(path)} and {theirs.get(path)}" for path in paths[:3])


def _layers(layout: Path) -> Iterator[tuple[str, Path]]:
    manifest = json.loads(_blob(layout, manifest_digest(layout)).read_bytes())
    for layer in manifest["layers"]:
        yield layer["mediaType"], _blob(layout, layer["digest"])


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


@contextmanager
def _opened(blob: Path, media_type: str) -> Iterator[IO[bytes]]:
    with blob.open("rb") as file:
        if media_type.endswith("zstd"):
            yield cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        elif media_type.endswith("gzip"):
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
        else:
            yield file


def _apply(archive: tarfile.TarFile, found: Files) -> None:
    for member in archive:
        path = member.name.removeprefix("./").strip("/")
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _drop(found, folder)
        elif name.startswith(".wh."):
            gone = f"{folder}/{name[4:]}".lstrip("/")
            found.pop(gone, None)
            _drop(found, gone)
        elif path not in ("", "."):
            content = ""
            if member.isreg():
                content = _digest(cast(IO[bytes], archive.extractfile(member)))
            found[path] = [
                member.type.decode(),
                member.mode & 0o7777,
                member.uid,
                member.gid,
                member.linkname,
                content,
            ]


def _drop(found: Files, folder: str) -> None:
    for path in [path for path in found if path.startswith(folder + "/")]:
        del found[path]


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def main(layout: Path, first: Path) -> None:
    files = merged(layout)
    if first.exists():
        print(difference(json.loads(first.read_bytes()), files))
    else:
        first.write_text(json.dumps(files))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
