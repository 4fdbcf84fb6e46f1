from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from minibuild_store.digest import Digest

from minibuild.errors import LayerError
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.scan import index_blob
from minibuild.layers.tarheader import END, header, padding
from minibuild.layers.unpack import unpack

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root may give files away")

Row = Entry | tuple[Entry, bytes]


def folder(path: bytes, mode: int = 0o755, **more: object) -> Entry:
    return Entry(path, Kind.DIR, mode, **more)  # type: ignore[arg-type]


def file(path: bytes, data: bytes = b"", mode: int = 0o644, **more: object) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, mode, size=len(data), **more), data  # type: ignore[arg-type]


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, link=target)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.HARDLINK, 0o644, link=target)


def archive(*rows: Row) -> bytes:
    pairs = [row if isinstance(row[1], bytes) else (row, b"") for row in rows]
    return b"".join(header(e) + data + bytes(padding(len(data))) for e, data in pairs) + END


def put(blob: bytes, dest: Path, *, content_only: bool = not ROOT) -> None:
    dest.mkdir()
    packed = unpack(
        io.BytesIO(blob),
        None,
        dest,
        diff_id=Digest.of(blob),
        skip_devices=False,
        content_only=content_only,
    )
    assert packed == index_blob(io.BytesIO(blob), None, Digest.of(blob)).dump()


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "dest"


# -- what a layer holds is what comes out


@needs_root
def test_every_kind_of_entry_has_its_owner_mode_time_and_attributes(dest: Path) -> None:
    meta = {"uid": 1234, "gid": 5678, "mtime_ns": 1_600_000_000 * 10**9}
    rows: list[Row] = [
        folder(b"d", 0o2751, **meta, xattrs=((b"user.note", b"on a folder"),)),
        file(b"d/suid", b"x", 0o6755, **meta, xattrs=((b"user.note", b"\0"),)),
        Entry(b"d/link", Kind.SYMLINK, 0o777, 7, 8, 0, 10**9, b"nowhere"),
        Entry(b"d/fifo", Kind.FIFO, 0o622, **meta),  # type: ignore[arg-type]
        Entry(b"d/null", Kind.CHAR, 0o666, **meta, device=(1, 3)),  # type: ignore[arg-type]
        Entry(b"d/disk", Kind.BLOCK, 0o1660, **meta, device=(259, 70000)),  # type: ignore[arg-type]
        file(b"d/past", mtime_ns=-(10**10)),
    ]
    put(archive(*rows), dest)
    want = {b"d": stat.S_IFDIR, b"d/suid": stat.S_IFREG, b"d/fifo": stat.S_IFIFO}
    for row in rows:
        entry = row if isinstance(row, Entry) else row[0]
        info = (dest / os.fsdecode(entry.path)).lstat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (entry.mode, entry.uid, entry.gid)
        assert info.st_mtime_ns == entry.mtime_ns
        assert stat.S_IFMT(info.st_mode) == want.get(entry.path, stat.S_IFMT(info.st_mode))
    assert os.readlink(dest / "d/link") == "nowhere"
    assert (dest / "d/disk").lstat().st_rdev == os.makedev(259, 70000)
    assert os.getxattr(dest / "d", "user.note") == b"on a folder"
    assert os.getxattr(dest / "d/suid", "user.note") == b"\0"


@needs_root
def test_file_capabilities_outlive_the_change_of_owner(dest: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    put(archive(file(b"ping", b"x", uid=5, xattrs=((b"security.capability", capability),))), dest)
    assert os.getxattr(dest / "ping", "security.capability") == capability


def test_attributes_that_a_symlink_cannot_have_are_left_out(dest: Path) -> None:
    put(archive(link(b"l", b"x")._replace(xattrs=((b"user.note", b"v"),))), dest)
    assert os.listxattr(dest / "l", follow_symlinks=False) == []


def test_attributes_that_steer_overlayfs_never_come_from_an_archive(dest: Path) -> None:
    steering = ((b"trusted.overlay.opaque", b"y"), (b"user.overlay.redirect", b"/etc"), (b"user.ok", b"1"))
    put(archive(folder(b"d")._replace(xattrs=steering), file(b"f", xattrs=steering)), dest)
    assert os.listxattr(dest / "d") == ["user.ok"]
    assert os.listxattr(dest / "f") == ["user.ok"]


def test_large_files_are_written_whole(dest: Path) -> None:
    data = os.urandom(3 << 20) + b"end"
    put(archive(file(b"a", data), file(b"b", b"small"), file(b"c", data[::-1])), dest)
    assert (dest / "a").read_bytes() == data
    assert (dest / "b").read_bytes() == b"small"
    assert (dest / "c").read_bytes() == data[::-1]


def test_holes_stay_holes(tmp_path: Path, dest: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as out:
        out.truncate(64 << 20)
        out.seek(32 << 20)
        out.write(b"in the middle")
    for form in (["--format=gnu"], ["--format=posix", "--sparse-version=1.0"]):
        target = dest.with_name(form[0])
        blob = subprocess.run(
            ["tar", "-S", *form, "-C", tmp_path, "-cf", "-", "sparse"], check=True, capture_output=True
        ).stdout
        put(blob, target)
        assert (target / "sparse").read_bytes() == source.read_bytes()
        assert (target / "sparse").stat().st_blocks < 1000


def test_hard_links_are_one_file(dest: Path) -> None:
    put(
        archive(file(b"a", b"one"), hard(b"b", b"a"), hard(b"d/c", b"b"), link(b"l", b"x"), hard(b"m", b"l")),
        dest,
    )
    assert (dest / "a").stat().st_ino == (dest / "b").stat().st_ino == (dest / "d/c").stat().st_ino
    assert (dest / "l").lstat().st_ino == (dest / "m").lstat().st_ino


def test_many_folders_stay_within_the_limit_of_open_files(dest: Path) -> None:
    rows: list[Row] = [file(b"%d/sub/f" % number, b"x") for number in range(700)]
    rows += [(hard(b"link/%d/l" % n, b"%d/sub/f" % (699 - n)), b"") for n in range(700)]
    deep = b"/".join([b"d"] * 250)
    put(archive(*rows, file(deep + b"/f"), folder(b"0"), file(b"d", b"now a file")), dest)
    assert (dest / "link/5/l").stat().st_nlink == 2
    assert (dest / "d").read_bytes() == b"now a file"


def test_the_folder_itself_is_plain_whatever_the_archive_says_of_its_root(dest: Path) -> None:
    put(archive(folder(b"", 0o700, mtime_ns=10**18), file(b"a")), dest)
    assert stat.S_IMODE(dest.stat().st_mode) == 0o755


def test_missing_parents_are_made_and_may_be_described_later(dest: Path) -> None:
    put(archive(file(b"a/b/c", b"x"), folder(b"a", 0o700, mtime_ns=5 * 10**9), file(b"a/d")), dest)
    assert stat.S_IMODE((dest / "a").stat().st_mode) == 0o700
    assert (dest / "a").stat().st_mtime_ns == 5 * 10**9
    assert stat.S_IMODE((dest / "a/b").stat().st_mode) == 0o755
    assert (dest / "a/b").stat().st_mtime_ns == 0


def test_the_last_entry_of_a_name_wins(dest: Path) -> None:
    rows: list[Row] = [
        file(b"a", b"first"),
        hard(b"keeps", b"a"),
        file(b"a", b"second"),
        file(b"was/folder/f"),
        file(b"was", b"file"),
        link(b"symlink", b"a"),
        folder(b"symlink"),
        file(b"symlink/inside"),
        file(b"twice", b"1"),
        folder(b"twice"),
        file(b"twice", b"3"),
    ]
    put(archive(*rows), dest)
    assert (dest / "a").read_bytes() == b"second"
    assert (dest / "keeps").read_bytes() == b"first"
    assert (dest / "was").read_bytes() == b"file"
    assert (dest / "symlink/inside").exists() and not (dest / "symlink").is_symlink()
    assert (dest / "twice").read_bytes() == b"3"


def test_parents_that_are_symlinks_are_followed_inside_the_root(dest: Path) -> None:
    rows: list[Row] = [
        link(b"lib", b"usr/lib"),
        file(b"lib/a", b"a"),
        link(b"abs", b"/usr/../../../usr"),
        file(b"abs/lib/b", b"b"),
        link(b"up", b"../../.."),
        file(b"up/c", b"c"),
        hard(b"lib/d", b"abs/lib/a"),
        file(b"usr/lib/.wh.gone"),
    ]
    put(archive(*rows), dest)
    assert sorted(os.listdir(dest / "usr/lib")) == ["a", "b", "d", "gone"]
    assert (dest / "c").read_bytes() == b"c"
    assert (dest / "usr/lib/a").stat().st_nlink == 2


# -- whiteouts


def is_whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


def test_whiteouts_and_opaque_folders_take_overlays_form(dest: Path) -> None:
    rows: list[Row] = [
        file(b"a/.wh.gone"),
        folder(b"o"),
        file(b"o/.wh..wh..opq"),
        file(b"o/new"),
        file(b".wh.top"),
    ]
    put(archive(*rows), dest)
    assert is_whiteout(dest / "a/gone")
    assert is_whiteout(dest / "top")
    assert is_opaque(dest / "o") and not is_opaque(dest / "a")
    assert os.listdir(dest / "o") == ["new"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_hides_the_layers_below_and_not_its_own(dest: Path, order: int) -> None:
    rows: list[Row] = [file(b".wh.f"), file(b"f", b"new"), file(b".wh.d"), folder(b"d", 0o711), file(b"d/x")]
    put(archive(*rows[::order]), dest)
    assert (dest / "f").read_bytes() == b"new"
    assert (dest / "d/x").exists()
    assert is_opaque(dest / "d")


def test_a_device_zero_is_a_whiteout_because_overlayfs_takes_it_for_one(dest: Path) -> None:
    blob = archive(Entry(b"d/x", Kind.CHAR, 0o600))
    put(blob, dest)
    assert is_whiteout(dest / "d/x")
    assert index_blob(io.BytesIO(blob), None, Digest.of(blob)).paths == [b"d/.wh.x"]


def test_records_of_aufs_are_passed_over(dest: Path) -> None:
    put(archive(folder(b".wh..wh.plnk"), file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs"), file(b"a")), dest)
    assert os.listdir(dest) == ["a"]


@pytest.mark.parametrize("name", [b".wh.", b"d/.wh..", b"d/.wh...", b".wh.x/y"])
def test_whiteouts_of_nothing_are_refused(dest: Path, name: bytes) -> None:
    with pytest.raises(LayerError, match="whiteout"):
        put(archive(file(name)), dest)


# -- what is refused


def raw(name: bytes, flag: bytes = b"0", target: bytes = b"") -> bytes:
    block = bytearray(header(Entry(b"x", Kind.FILE, 0o644)))
    block[:100] = name.ljust(100, b"\0")
    block[156:257] = flag + target.ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HOSTILE = {
    "climbing name": raw(b"../canary"),
    "climbing in the middle": raw(b"a/../../canary"),
    "absolute and climbing": raw(b"/../canary"),
    "hard link to outside": raw(b"x", b"1", b"../canary"),
    "hard link to outside through a symlink": archive(link(b"l", b"../../.."), hard(b"x", b"l/canary")),
    "hard link to nothing": archive(hard(b"x", b"canary")),
    "hard link to a folder": archive(folder(b"d"), hard(b"x", b"d")),
    "hard link to itself": archive(file(b"x"), hard(b"x", b"x")),
    "hard link over its own target's folder": archive(file(b"d/x"), hard(b"d", b"d/x")),
    "entry under a file": archive(file(b"canary"), file(b"canary/x")),
    "entry under a fifo": archive(Entry(b"p", Kind.FIFO, 0o644), file(b"p/x")),
    "loop of symlinks": archive(link(b"a", b"b"), link(b"b", b"a"), file(b"a/x")),
    "symlink to itself": archive(link(b"a", b"a"), file(b"a/x")),
    "unknown type": raw(b"x", b"V"),
    "long name": archive(file(b"n" * 300)),
    "not an archive": b"\xff" * 4096,
    "truncated": archive(file(b"x", b"y" * 1000))[:1000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_layers_are_refused_and_touch_nothing_outside(tmp_path: Path, dest: Path, name: str) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b"alive")
    before = canary.stat()
    with pytest.raises(LayerError):
        put(HOSTILE[name], dest)
    assert sorted(os.listdir(tmp_path)) == ["canary", "dest"]
    assert canary.stat() == before  # reading it may set its time of access
    assert canary.read_bytes() == b"alive"


def outward(tmp_path: Path) -> list[bytes]:
    """Layers that reach for `tmp_path`/outside by symlinks, and end inside the root."""
    absolute = os.fsencode(tmp_path / "outside")
    up = b"../" * 30 + absolute.lstrip(b"/")
    rows: list[list[Row]] = []
    for target in (absolute, up):
        rows.append([link(b"l", target), file(b"l/canary", b"dead", 0o777)])
        rows.append([link(b"l", target), folder(b"l/canary")])
        rows.append([link(b"l", target), file(b"l/.wh.canary")])
        rows.append([link(b"l", target), file(b"l/.wh..wh..opq")])
        rows.append([link(b"l", target + b"/canary"), file(b"l", b"dead", 0o777)])
        rows.append([link(b"l", target), hard(b"m", b"l"), file(b"m/canary", b"dead")])
        rows.append([link(b"l", b"m"), link(b"m", target), file(b"l/canary", b"dead")])
        rows.append([folder(b"l"), link(b"l", target), file(b"l/canary", b"dead"), folder(b"l", 0o777)])
        rows.append([link(b"l", target), folder(b"l", 0o777), file(b"l/canary", b"dead")])
    return [archive(*layer) for layer in rows]


def test_symlinks_to_outside_never_lead_there(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "canary").write_bytes(b"alive")
    before = state(outside)
    for number, blob in enumerate(outward(tmp_path)):
        put(blob, tmp_path / f"dest{number}")
    assert os.listdir(outside) == ["canary"]
    assert (outside / "canary").read_bytes() == b"alive"
    assert state(outside) == before


def state(folder: Path) -> list[tuple[int, int, int]]:
    infos = [folder.stat(), (folder / "canary").stat()]
    return [(info.st_ino, info.st_mode, info.st_ctime_ns) for info in infos]


def test_a_layer_that_is_not_what_its_diff_id_promises_is_refused(dest: Path) -> None:
    dest.mkdir()
    blob = archive(file(b"a"))
    with pytest.raises(LayerError, match="promises"):
        unpack(io.BytesIO(blob), None, dest, diff_id=Digest.of(b""), skip_devices=True, content_only=True)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    blob = archive(file(b"a", b"x" * 700), folder(b"d"), file(b"d/b", b"y"))
    for cut in range(0, len(blob), 512):
        dest = tmp_path / str(cut)
        dest.mkdir()
        with pytest.raises(LayerError):
            unpack(
                io.BytesIO(blob[:cut]),
                None,
                dest,
                diff_id=Digest.of(blob),
                skip_devices=True,
                content_only=True,
            )


def test_a_fault_of_the_source_reaches_the_caller(dest: Path) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError("gone")

    dest.mkdir()
    with pytest.raises(ConnectionResetError):
        unpack(Broken(), None, dest, diff_id=Digest.of(b""), skip_devices=True)


def test_no_descriptor_and_no_thread_is_left(dest: Path, tmp_path: Path) -> None:
    import threading

    before = len(os.listdir("/proc/self/fd"))
    put(archive(file(b"a/b/c")), dest)
    with pytest.raises(LayerError):
        put(
            archive(*[file(b"%d/f" % n, b"x" * 9000) for n in range(300)], hard(b"x", b"no")),
            tmp_path / "two",
        )
    assert len(os.listdir("/proc/self/fd")) == before
    assert [t.name for t in threading.enumerate() if t.name.startswith("layer-")] == []


# -- without privileges


def test_content_only_needs_no_privileges(tmp_path: Path) -> None:
    rows: list[Row] = [
        folder(b"closed", 0o500, uid=0, gid=0),
        file(b"closed/f", b"x", 0o4755, uid=33, xattrs=((b"security.capability", b"\1" * 20),)),
        Entry(b"closed/null", Kind.CHAR, 0o666, device=(1, 3)),
        hard(b"link", b"closed/null"),
        hard(b"other", b"link"),
        link(b"link", b"replaces a device"),
        file(b".wh.gone"),
    ]
    blob = tmp_path / "blob"
    blob.write_bytes(archive(*rows))
    dest = tmp_path / "dest"
    dest.mkdir()
    code = (
        "import sys\nfrom pathlib import Path\nfrom minibuild.layers.unpack import unpack\n"
        "from minibuild_store.digest import Digest\nblob, dest = map(Path, sys.argv[1:])\n"
        "with blob.open('rb') as file:\n"
        "    diff_id = Digest.of(blob.read_bytes())\n"
        "    unpack(file, None, dest, diff_id=diff_id, skip_devices=False, content_only=True)"
    )
    command: list[str | Path] = [sys.executable, "-c", code, blob, dest]
    if ROOT:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    subprocess.run(command, check=True)
    info = (dest / "closed/f").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o4755, os.geteuid())
    assert stat.S_IMODE((dest / "closed").stat().st_mode) == 0o500
    assert os.listdir(dest / "closed") == ["f"]
    assert sorted(os.listdir(dest)) == ["closed", "gone", "link"]
    assert is_whiteout(dest / "gone")
    os.chmod(dest / "closed", 0o700)


@needs_root
def test_devices_are_left_out_where_asked(dest: Path) -> None:
    dest.mkdir()
    blob = archive(Entry(b"dev/null", Kind.CHAR, 0o666, device=(1, 3)), hard(b"also", b"dev/null"))
    packed = unpack(io.BytesIO(blob), None, dest, diff_id=Digest.of(blob), skip_devices=True)
    assert os.listdir(dest) == ["dev"] and os.listdir(dest / "dev") == []
    assert LayerIndex.load(packed).paths == [b"dev/null", b"also"]


def test_passwd_and_group_are_kept_in_the_index(dest: Path) -> None:
    rows: list[Row] = [
        file(b"etc/passwd", b"old"),
        file(b"etc/passwd", b"root:x:0:0"),
        file(b"etc/group", b"g"),
        folder(b"x"),
    ]
    blob = archive(*rows)
    put(blob, dest)
    index = index_blob(io.BytesIO(blob), None, Digest.of(blob))
    assert dict(index.files) == {b"etc/passwd": b"root:x:0:0", b"etc/group": b"g"}
    assert (dest / "etc/passwd").read_bytes() == b"root:x:0:0"
    for after in (link(b"etc", b"elsewhere"), hard(b"etc/passwd", b"new")):
        gone = archive(file(b"new", b"new"), file(b"etc/passwd", b"old"), after)
        assert dict(index_blob(io.BytesIO(gone), None, Digest.of(gone)).files) == {}


def test_whiteouts_are_attributes_where_nodes_are_refused(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refuse)  # as kernels before 5.8 do to all but root
    put(archive(folder(b"d"), file(b"d/.wh.gone"), file(b"d/.wh.back"), file(b"d/back", b"new")), dest)
    assert os.getxattr(dest / "d", "user.overlay.opaque") == b"x"
    assert os.getxattr(dest / "d/gone", "user.overlay.whiteout") == b"y"
    assert os.listxattr(dest / "d/back") == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_are_exact_whatever_the_umask(dest: Path, umask: int) -> None:
    modes = (0o644, 0o755, 0o600, 0o444, 0o000, 0o666, 0o777, 0o4755, 0o2711, 0o1644)
    before = os.umask(umask)
    try:
        put(archive(*(file(b"%o" % mode, b"data", mode=mode) for mode in modes)), dest)
    finally:
        os.umask(before)
    assert {name: stat.S_IMODE((dest / name).stat().st_mode) for name in os.listdir(dest)} == {
        f"{mode:o}": mode for mode in modes
    }


@needs_root
@pytest.mark.parametrize("shared", [False, True], ids=["own group", "the folder's group"])
def test_owners_are_exact_in_a_folder_that_gives_its_group_on(dest: Path, shared: bool) -> None:
    dest.mkdir()
    if shared:
        os.chown(dest, -1, 12)
        dest.chmod(0o2755)
    blob = archive(
        file(b"d/root", b"1"), file(b"d/other", b"2", uid=5, gid=6), file(b"d/group", b"3", gid=12)
    )
    unpack(io.BytesIO(blob), None, dest, diff_id=Digest.of(blob), skip_devices=True)
    owners = {
        name: ((info := (dest / "d" / name).stat()).st_uid, info.st_gid) for name in os.listdir(dest / "d")
    }
    assert owners == {"root": (0, 0), "other": (5, 6), "group": (0, 12)}


def test_a_default_access_list_of_the_folder_changes_no_mode(dest: Path) -> None:
    dest.mkdir()
    entries = ((0x01, 7), (0x04, 0), (0x20, 0))  # user, group and other (acl(5), as the kernel stores it)
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, may, 2**32 - 1) for tag, may in entries)
    try:
        os.setxattr(dest, "system.posix_acl_default", packed)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    blob = archive(file(b"f", b"1", mode=0o644), file(b"d/f", b"2", mode=0o755))
    content_only = not ROOT
    unpack(
        io.BytesIO(blob), None, dest, diff_id=Digest.of(blob), skip_devices=True, content_only=content_only
    )
    assert [stat.S_IMODE((dest / name).stat().st_mode) for name in ("f", "d/f")] == [0o644, 0o755]


def test_a_folder_in_place_of_which_files_come_again_and_again(dest: Path) -> None:
    rows: list[Row] = []
    for data in (b"1", b"2", b"3"):
        rows += [Entry(b"a", Kind.DIR, 0o755), file(b"a/b/c", data), file(b"a/d", data), file(b"a/.wh.e")]
        rows += [file(b"a", data)]
    put(archive(*rows, Entry(b"a", Kind.DIR, 0o755), file(b"a/b/c", b"4")), dest)
    assert (dest / "a/b/c").read_text() == "4"
    assert os.listdir(dest / "a") == ["b"]


FEW = """
import io, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from minibuild_store.digest import Digest
from minibuild.layers.unpack import unpack
blob = sys.stdin.buffer.read()
where = Path(sys.argv[1])
unpack(io.BytesIO(blob), None, where, diff_id=Digest.of(blob), skip_devices=False, content_only=True)
"""


def test_few_open_files_are_enough_for_many_folders(dest: Path) -> None:
    rows: list[Row] = [folder(b"x")]
    for number in range(200):
        rows += [folder(b"x/%d" % number), file(b"x/%d/f" % number, b"text")]
    dest.mkdir()
    done = subprocess.run((sys.executable, "-c", FEW, dest), input=archive(*rows), check=False)
    assert done.returncode == 0
    assert len(list((dest / "x").iterdir())) == 200
