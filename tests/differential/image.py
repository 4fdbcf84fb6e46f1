"""What an image is, as plain values to compare: read from an OCI layout with the standard library's tarfile.

Nothing of minibuild is used here, so that a fault of its own readers cannot hide one of its writers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.differential.bases import BASE_TIME, BUSYBOX

_SHOWN_BYTES = 400
_NO_TIME = 315_619_200  # what minibuild gives to what it makes on an empty base
_RECENT = 1_700_000_000  # no input of a case is as new
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}

Table = dict[str, dict[str, Any]]


def read_image(layout: Path, base_layers: int | None = None) -> dict[str, Any]:
    """Configuration, history and files of the image in the OCI layout at `layout`.

    Files that are as in the base are left out, files of it that are gone are listed under ``gone``.
    Which layers are the base's is told by history lines that begin with ``base layer``.
    """
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]))
    while "manifests" in manifest:
        manifest = json.loads(_blob(layout, manifest["manifests"][0]["digest"]))
    config = json.loads(_blob(layout, manifest["config"]["digest"]))
    history = config.pop("history", None) or []
    config.pop("created", None)
    diff_ids = config.pop("rootfs")["diff_ids"] or []
    layers = manifest.get("layers") or []
    if base_layers is None:
        base_layers = sum(str(line.get("created_by", "")).startswith("base layer") for line in history)
    table: Table = {}
    base: Table = {}
    for number, layer in enumerate(layers):
        apply_layer(table, _layer(layout, layer["digest"]))
        if number + 1 == base_layers:
            base = _view(table)
    assert len(diff_ids) == len(layers)
    files, touched, gone = _changes(table, base)
    return {
        "config": config,
        "history": [_history_line(line) for line in history],
        "layers": len(layers),
        "files": files,
        "touched": touched,
        "gone": gone,
    }


def _history_line(line: dict[str, Any]) -> list[Any]:
    rest = {name: value for name, value in line.items() if name not in ("created", "created_by")}
    comment = rest.pop("comment", None)
    short: list[Any] = [line.get("created_by", "")]
    if comment not in (None, "buildkit.dockerfile.v0"):
        rest["comment"] = comment
    if rest.pop("empty_layer", False):
        short.append("empty")
    return [*short, rest] if rest else short


def _blob(layout: Path, digest: str) -> bytes:
    algorithm, _, name = digest.partition(":")
    return (layout / "blobs" / algorithm / name).read_bytes()


_KEPT: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {}


def _layer(layout: Path, digest: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The members of a layer; those of big ones (the bases') are read once."""
    if digest in _KEPT:
        return _KEPT[digest]
    members = _members(layout, digest)
    if (layout / "blobs" / digest.replace(":", "/")).stat().st_size > 1 << 19:
        _KEPT[digest] = members
    return members


def _members(layout: Path, digest: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The members of a layer in order."""
    data = _blob(layout, digest)
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as stream:
            data = stream.read()
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            found.append((member.name.strip("/"), _entry(archive, member)))
    return tuple(found)


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    if member.type == tarfile.LNKTYPE:
        return {"hard": member.linkname.strip("/")}
    entry: dict[str, Any] = {
        "kind": _KINDS[member.type],
        "mode": f"{member.mode:04o}",
        "owner": f"{member.uid}:{member.gid}",
        "mtime": member.mtime,
    }
    if member.uname or member.gname:
        entry["names"] = f"{member.uname}:{member.gname}"
    if member.type == tarfile.SYMTYPE:
        entry["target"] = member.linkname
    elif member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        entry["device"] = f"{member.devmajor}:{member.devminor}"
    elif member.isreg():
        file = archive.extractfile(member)
        assert file is not None
        entry.update(shown(file.read()))
    for name, value in member.pax_headers.items():
        if name.startswith("SCHILY.xattr."):
            attributes = entry.setdefault("xattrs", {})
            attributes[name.removeprefix("SCHILY.xattr.")] = value.encode("utf-8", "surrogateescape").hex()
    return entry


@lru_cache
def _busybox() -> str:
    assert BUSYBOX is not None
    return hashlib.sha256(Path(BUSYBOX).read_bytes()).hexdigest()


def shown(data: bytes) -> dict[str, Any]:
    """A file's content for a golden: itself where it is short text, else its size and digest."""
    if len(data) <= _SHOWN_BYTES:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return {"hex": data.hex()}
        return {"text": text}
    digest = hashlib.sha256(data).hexdigest()
    if digest == _busybox():
        return {"text": "(busybox)"}
    return {"size": len(data), "sha256": digest}


def apply_layer(table: Table, members: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    """Lay a layer over `table` (OCI image-spec, layer.md): whiteouts hide what lower layers have."""
    added: set[str] = set()
    for path, _marked in members:
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _remove(table, folder, keep=added, itself=False)
        elif name.startswith(".wh."):
            _remove(table, f"{folder}/{name[4:]}" if folder else name[4:], keep=added)
    for path, entry in members:
        if path.rpartition("/")[2].startswith(".wh.") or path in ("", "."):
            continue
        previous = table.get(path)
        if previous is not None and not (previous["kind"] == "dir" and entry.get("kind") == "dir"):
            _remove(table, path, keep=set())
        if "hard" in entry:
            table[path] = table[entry["hard"]]
        else:
            table[path] = dict(entry)
        added.add(path)


def _remove(table: Table, path: str, *, keep: set[str], itself: bool = True) -> None:
    prefix = f"{path}/" if path else ""
    doomed = [known for known in table if known.startswith(prefix) or (itself and known == path)]
    for known in doomed:
        if known not in keep:
            del table[known]


def _view(table: Table) -> Table:
    """`table` with every further name of a file as a link to the first, and no entry shared."""
    first: dict[int, str] = {}
    view: Table = {}
    for path, entry in sorted(table.items()):
        known = first.setdefault(id(entry), path)
        view[path] = dict(entry) if known == path else {"hard": known}
    return view


def _changes(table: Table, base: Table) -> tuple[Table, Table, list[str]]:
    """What differs from `base`, less the times that nobody chose; what only got such a time; what is gone."""
    files: Table = {}
    touched: Table = {}
    for path, entry in _view(table).items():
        before = base.get(path)
        if entry == before:
            continue
        if entry.get("mtime", 0) >= _RECENT or entry.get("mtime") in (BASE_TIME, _NO_TIME):
            entry.pop("mtime")
            before = {name: value for name, value in before.items() if name != "mtime"} if before else None
        (touched if entry == before else files)[path] = entry
    return files, touched, _topmost(sorted(base.keys() - table.keys()))


def _topmost(paths: list[str]) -> list[str]:
    kept: list[str] = []
    for path in paths:
        if not any(path.startswith(f"{parent}/") for parent in kept):
            kept.append(path)
    return kept
