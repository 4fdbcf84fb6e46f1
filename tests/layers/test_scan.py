from __future__ import annotations

import gzip
import hashlib
import io
import threading
from pathlib import Path

import pytest
import zstandard
from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.scan import digests, extract, index_blob, rows
from minibuild.layers.tarheader import END, header, padding
from minibuild.oci import mediatype


def file(path: bytes, data: bytes) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, 0o644, size=len(data)), data


def archive(*rows: tuple[Entry, bytes]) -> bytes:
    return b"".join(header(entry) + data + bytes(padding(len(data))) for entry, data in rows) + END


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


BLOB = archive(
    file(b"a", b"first"),
    (Entry(b"d", Kind.DIR, 0o755), b""),
    file(b"d/big", b"big" * 1_000_000),
    file(b"a", b"second"),
    (Entry(b"hard", Kind.HARDLINK, 0o644, link=b"a"), b""),
)


@pytest.mark.parametrize(
    ("blob", "media_type"),
    [
        (BLOB, mediatype.OCI_LAYER),
        (gzip.compress(BLOB), mediatype.OCI_LAYER_GZIP),
        (gzip.compress(BLOB), mediatype.DOCKER_LAYER_GZIP),
        (zstandard.compress(BLOB), mediatype.OCI_LAYER_ZSTD),
        (gzip.compress(BLOB), None),
    ],
)
def test_a_blob_is_indexed_and_verified_whatever_its_compression(blob: bytes, media_type: str | None) -> None:
    index = index_blob(io.BytesIO(blob), media_type, Digest.of(BLOB))
    assert index.paths == [b"a", b"d", b"d/big", b"a", b"hard"]
    with pytest.raises(LayerError, match="promises"):
        index_blob(io.BytesIO(blob), media_type, Digest.of(b"something else"))


def test_diff_ids_may_be_sha512() -> None:
    diff_id = Digest.parse("sha512:" + hashlib.sha512(BLOB).hexdigest())
    assert len(index_blob(io.BytesIO(BLOB), None, diff_id).entries) == 5


def test_bytes_after_the_end_belong_to_the_diff_id() -> None:
    blob = BLOB + b"trailing"
    index_blob(io.BytesIO(blob), None, Digest.of(blob))
    with pytest.raises(LayerError):
        index_blob(io.BytesIO(blob), None, Digest.of(BLOB))


def test_the_last_entry_of_a_path_is_extracted(tmp_path: Path) -> None:
    wanted = {b"a": tmp_path / "a", b"d/big": tmp_path / "big"}
    got = extract(io.BytesIO(BLOB), None, wanted)
    assert (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "big").read_bytes() == b"big" * 1_000_000
    assert got == {b"a": sha256(b"second"), b"d/big": sha256(b"big" * 1_000_000)}


def test_positions_tell_entries_of_one_path_apart() -> None:
    assert digests(io.BytesIO(BLOB), None, [0, 3]) == {0: sha256(b"first"), 3: sha256(b"second")}


def test_a_pass_by_position_ends_with_the_last_one() -> None:
    assert digests(io.BytesIO(BLOB[:1024] + b"damaged"), None, [0]) == {0: sha256(b"first")}
    assert [t for t in threading.enumerate() if t.name.startswith("layer-")] == []


def test_nothing_wanted_reads_nothing(tmp_path: Path) -> None:
    assert digests(io.BytesIO(b"damaged"), None, []) == {}
    nothing: dict[bytes, Path] = {}
    assert extract(io.BytesIO(b"damaged"), None, nothing) == {}


def test_what_is_no_regular_file_cannot_be_had() -> None:
    for path in (b"d", b"hard", b"none"):
        with pytest.raises(LayerError, match="no regular file"):
            digests(io.BytesIO(BLOB), None, [path])
    with pytest.raises(LayerError, match="position 4"):
        digests(io.BytesIO(BLOB), None, [4])


def test_holes_are_hashed_as_zeros_and_stay_holes(tmp_path: Path) -> None:
    import subprocess

    source = tmp_path / "sparse"
    with source.open("wb") as out:
        out.seek(40 << 20)
        out.write(b"data")
        out.truncate(50 << 20)
    blob = subprocess.run(
        ["tar", "-S", "-C", tmp_path, "-cf", "-", "sparse"], check=True, capture_output=True
    ).stdout
    got = extract(io.BytesIO(blob), None, {b"sparse": tmp_path / "copy"})
    assert got == {b"sparse": sha256(source.read_bytes())}
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_blocks < 1000


def test_rows_have_the_positions_of_the_index() -> None:
    blob = archive(
        (Entry(b"", Kind.DIR, 0o755), b""),
        (Entry(b".wh..wh.plnk", Kind.DIR, 0o755), b""),
        file(b".wh..wh.plnk/12.3", b"aufs"),
        file(b".wh..wh.orph", b""),
        (Entry(b"l", Kind.SYMLINK, 0o777, link=b"real"), b""),
        file(b"l/x", b"x"),
        file(b".wh.gone", b""),
        file(b".wh..wh..opq", b""),
    )
    index = index_blob(io.BytesIO(blob), None, Digest.of(blob))
    assert index.paths == [b"", b"l", b"real/x", b".wh.gone", b".wh..wh..opq"]
    found = [(position, member.kind, body.read()) for position, member, body in rows(io.BytesIO(blob), None)]
    contents = (b"", b"", b"x", b"", b"")
    assert found == [(n, e.kind, c) for n, (e, c) in enumerate(zip(index.entries, contents, strict=True))]
