from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from minibuild.errors import LayerError
from minibuild.layers.compress import Compression
from minibuild.layers.diff import DiffResult, diff
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.names import PIECE
from minibuild.layers.writer import LayerResult, LayerWriter

SECOND = 1_000_000_000
OLD = 1_000_000_000 * SECOND
PLAIN = Compression.parse("uncompressed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


class Overlay:
    """An overlay of one lower and one upper directory, mounted in a name space of its own."""

    def __init__(self, folder: Path, option: str) -> None:
        self.lower, self.upper, self._work = (folder / name for name in ("lower", "upper", "work"))
        self._merged = folder / "merged"
        self._blob = folder / "blob"
        self._options = f"lowerdir={self.lower},upperdir={self.upper},workdir={self._work}{option}"
        for path in (self.lower, self.upper, self._work, self._merged):
            path.mkdir()

    def below(self, path: str, content: str | None = None, mode: int | None = None) -> Path:
        """Put a file (or a folder) into the lower directory."""
        made = self.lower / path
        if content is None:
            made.mkdir(parents=True)
        else:
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(content)
        if mode is not None:
            made.chmod(mode)
        for each in (made, *made.parents):
            if each.is_relative_to(self.lower):
                os.utime(each, ns=(OLD, OLD))
        return made

    def run(self, script: str) -> None:
        """Run a shell script in the mounted tree."""
        mount = f"mount -t overlay overlay -o {shlex.quote(self._options)} {shlex.quote(str(self._merged))}"
        enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
        script = (
            f"{mount} || exit 77; cd {shlex.quote(str(self._merged))} || exit 1; set -e; umask 022; {script}"
        )
        done = subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True, check=False)
        if done.returncode == 77:
            pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr

    def diff(
        self,
        ignore: set[bytes] = frozenset(),  # type: ignore[assignment]
        owner: Callable[[os.stat_result, Mapping[bytes, bytes]], tuple[int, int]] | None = None,
        lower_known: bool = True,
        piece: int = PIECE,
    ) -> Layer:
        lower = self.lower if lower_known else None
        with self._blob.open("wb") as blob, LayerWriter(blob.fileno(), PLAIN) as writer:
            done = diff(self.upper, lower, writer, ignore=ignore, owner=owner, piece=piece)
            result = writer.close()
        return Layer(done, result, list(LayerIndex.load(result.index).entries), self._blob.read_bytes())


class Layer(NamedTuple):
    done: DiffResult
    result: LayerResult
    entries: list[Entry]
    blob: bytes

    @property
    def paths(self) -> list[bytes]:
        return [entry.path for entry in self.entries]

    def at(self, path: bytes) -> Entry:
        (entry,) = [entry for entry in self.entries if entry.path == path]
        return entry


@pytest.fixture(params=[",userxattr", pytest.param("", marks=needs_root)], ids=["userxattr", "trusted"])
def overlay(tmp_path: Path, request: pytest.FixtureRequest) -> Overlay:
    return Overlay(tmp_path, request.param)


def test_new_things_come_parents_first_and_sorted_by_their_bytes(overlay: Overlay) -> None:
    overlay.run("mkdir -p b/sub a; echo x > b/sub/f; echo y > b.txt; echo z > Z; echo w > a-; touch b/é")
    layer = overlay.diff()
    names = ["Z", "a", "a-", "b", "b/sub", "b/sub/f", "b/é", "b.txt"]
    assert layer.paths == [name.encode() for name in names]
    assert layer.done == DiffResult(8, ())
    assert layer.at(b"b/sub/f").size == 2


def test_folders_too_large_to_be_sorted_at_once_make_the_same_layer(overlay: Overlay) -> None:
    overlay.below("a/gone", "1")
    overlay.run("for i in 3 1 c.d 2 c; do mkdir -p a/$i; for j in z 10 1 y; do echo $j > a/$i/$j; done; done")
    overlay.run("ln a/1/y a/2/w; rm a/gone; touch a/é a/Z")
    assert overlay.diff(piece=2) == overlay.diff()


def test_nothing_changed_is_an_empty_layer(overlay: Overlay) -> None:
    overlay.below("etc/passwd", "root\n")
    overlay.run("cat etc/passwd; touch etc; mkdir etc/tmp; rmdir etc/tmp; touch etc/new; rm etc/new")
    layer = overlay.diff()
    assert layer.entries == []
    assert layer.blob == bytes(1024)


def test_a_changed_file_brings_its_parents_as_they_are(overlay: Overlay) -> None:
    overlay.below("etc/deep/conf", "old", 0o640)
    (overlay.lower / "etc").chmod(0o711)
    overlay.run("echo changed >> etc/deep/conf")
    layer = overlay.diff()
    assert layer.paths == [b"etc", b"etc/deep", b"etc/deep/conf"]
    assert (layer.at(b"etc").mode, layer.at(b"etc").mtime_ns) == (0o711, OLD)
    assert layer.at(b"etc/deep/conf").mode == 0o640


def test_a_parent_brought_along_is_not_brought_twice(overlay: Overlay) -> None:
    overlay.below("a/b/one", "1")
    overlay.below("a/c/two", "2")
    overlay.below("a/d/three", "3")
    overlay.run("echo >> a/b/one; touch -d @1000000000 a/c; echo >> a/d/three; echo > z")
    assert overlay.diff().paths == [b"a", b"a/b", b"a/b/one", b"a/d", b"a/d/three", b"z"]


def test_a_folder_whose_mode_changed_is_written_alone(overlay: Overlay) -> None:
    overlay.below("opt/tool/file", "x")
    overlay.run("chmod 700 opt/tool")
    layer = overlay.diff()
    assert layer.paths == [b"opt", b"opt/tool"]
    assert layer.at(b"opt/tool").mode == 0o700


def test_a_file_copied_up_and_left_as_it_was_is_no_change(overlay: Overlay) -> None:
    overlay.below("f", "content", 0o644)
    os.symlink("f", overlay.lower / "link")
    overlay.run("chmod 600 f; chmod 644 f; chown -h $(stat -c %u:%g f) f link")
    assert (overlay.upper / "f").exists()
    assert overlay.diff().entries == []


def test_a_file_of_the_same_size_and_time_but_other_content_is_a_change(overlay: Overlay) -> None:
    overlay.below("f", "content", 0o644)
    overlay.run("echo -n CONTENT > f; touch -d @1000000000 f")
    assert overlay.diff().paths == [b"f"]


def test_a_touched_file_is_a_change(overlay: Overlay) -> None:
    overlay.below("f", "content", 0o644)
    overlay.run("touch -d @1234567890 f")
    assert overlay.diff().at(b"f").mtime_ns == 1_234_567_890 * SECOND


def test_deletions_are_files_that_nobody_owns_at_the_epoch(overlay: Overlay) -> None:
    overlay.below("d/one", "1")
    overlay.below("d/two", "2")
    overlay.below("gone/with/all", "3")
    overlay.run("rm d/one d/two; rm -r gone")
    layer = overlay.diff()
    assert layer.paths == [b"d", b"d/.wh.one", b"d/.wh.two", b".wh.gone"]
    assert layer.at(b"d/.wh.two") == Entry(b"d/.wh.two", Kind.FILE, 0)


def test_what_came_and_went_leaves_no_whiteout(overlay: Overlay) -> None:
    overlay.below("d/keep", "1")
    overlay.run("rm d/keep; echo 1 > d/keep; mkdir n; touch n/x; rm n/x d/keep; echo > d/keep")
    assert overlay.diff().paths == [b"d", b"d/keep", b"n"]


def test_a_folder_emptied_and_made_anew_is_opaque(overlay: Overlay) -> None:
    overlay.below("d/old", "1")
    overlay.below("d/sub/old", "1")
    overlay.run("rm -r d; mkdir d; echo 2 > d/new; echo 2 > d/-")
    layer = overlay.diff()
    assert layer.paths == [b"d", b"d/.wh..wh..opq", b"d/-", b"d/new"]
    assert layer.at(b"d").xattrs == ()


def test_under_an_opaque_folder_everything_counts(overlay: Overlay) -> None:
    overlay.below("d/same", "1", 0o644)
    overlay.run("cp -a d copy; rm -r d; mv copy d || { mkdir d; cp -a copy/same d/; rm -r copy; }")
    assert overlay.diff().paths == [b"d", b"d/.wh..wh..opq", b"d/same"]


def test_an_opaque_folder_over_an_empty_one_needs_no_marker(overlay: Overlay) -> None:
    overlay.below("d", None)
    overlay.run("rmdir d; mkdir d")
    assert overlay.diff().entries == []


def test_things_change_their_kind(overlay: Overlay) -> None:
    overlay.below("file", "1")
    overlay.below("folder/inside", "1")
    overlay.run("rm file; mkdir file; touch file/x; rm -r folder; ln -s file folder")
    layer = overlay.diff()
    assert layer.paths == [b"file", b"file/x", b"folder"]
    assert layer.at(b"folder") == layer.at(b"folder")._replace(kind=Kind.SYMLINK, link=b"file", size=0)


def test_names_of_one_inode_are_links_within_the_layer(overlay: Overlay) -> None:
    overlay.below("lower", "content", 0o644)
    overlay.run("ln lower a; mkdir d; ln lower d/b; echo > single; ln -s nowhere s; ln s t")
    layer = overlay.diff()
    assert layer.paths == [b"a", b"d", b"d/b", b"lower", b"s", b"single", b"t"]
    assert layer.at(b"a").kind is Kind.FILE
    assert [(layer.at(path).kind, layer.at(path).link) for path in (b"d/b", b"lower", b"t")] == [
        (Kind.HARDLINK, b"a"),
        (Kind.HARDLINK, b"a"),
        (Kind.HARDLINK, b"s"),
    ]
    assert layer.at(b"lower").mode == 0o644


def test_user_attributes_are_kept_and_our_own_are_not(overlay: Overlay) -> None:
    overlay.below("f", "x")
    overlay.run("echo more >> f; mkdir d; echo > g")
    os.setxattr(overlay.upper / "f", "user.note", b"hello")
    os.setxattr(overlay.upper / "f", "user.minibuild.owner", b"5:6")
    os.setxattr(overlay.upper / "d", "user.overlay.impure", b"y")
    layer = overlay.diff()
    assert {entry.path: entry.xattrs for entry in layer.entries} == {
        b"d": (),
        b"f": ((b"user.note", b"hello"),),
        b"g": (),
    }


def test_an_attribute_alone_is_a_change(overlay: Overlay) -> None:
    overlay.below("f", "x", 0o644)
    overlay.below("d", None)
    overlay.run("chmod 600 f d; chmod 644 f; chmod 755 d")
    assert overlay.diff().entries == []
    os.setxattr(overlay.upper / "f", "user.note", b"1")
    os.setxattr(overlay.upper / "d", "user.note", b"1")
    assert overlay.diff().paths == [b"d", b"f"]


@needs_root
def test_file_capabilities_are_kept(overlay: Overlay) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    overlay.run("echo > tool")
    os.setxattr(overlay.upper / "tool", "security.capability", capability)
    assert overlay.diff().at(b"tool").xattrs == ((b"security.capability", capability),)


@needs_root
def test_access_control_lists_stay_behind(overlay: Overlay) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    overlay.run("echo > f")
    subprocess.run(["setfacl", "-m", "u:1234:r", overlay.upper / "f"], check=True)
    assert overlay.diff().at(b"f").xattrs == ()


@needs_root
def test_devices_and_owners_are_kept(overlay: Overlay) -> None:
    overlay.run("mknod null c 1 3; mknod disk b 259 70000; chown 12:34 null; chmod 4755 null")
    layer = overlay.diff()
    assert (layer.at(b"null").kind, layer.at(b"null").device) == (Kind.CHAR, (1, 3))
    assert (layer.at(b"null").uid, layer.at(b"null").gid, layer.at(b"null").mode) == (12, 34, 0o4755)
    assert (layer.at(b"disk").kind, layer.at(b"disk").device) == (Kind.BLOCK, (259, 70000))


def test_pipes_are_kept_and_not_read(overlay: Overlay) -> None:
    overlay.run("mkfifo pipe")
    assert overlay.diff().at(b"pipe").kind is Kind.FIFO


def test_sockets_are_skipped_and_reported(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay.below("was", "a file")
    overlay.run("mkdir run; rm was; echo > f")
    monkeypatch.chdir(overlay.upper)
    for name in ("run/sock", "was"):
        if name == "was":
            os.unlink(name)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    layer = overlay.diff()
    assert layer.paths == [b"f", b"run", b".wh.was"]
    assert layer.done == DiffResult(3, (b"run/sock", b"was"))


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", "d/.wh."])
def test_names_that_mean_deletions_fail(name: str, overlay: Overlay) -> None:
    overlay.run(f"mkdir d; echo > {name}")
    with pytest.raises(LayerError, match=r"\.wh\.") as caught:
        overlay.diff()
    assert caught.value.cure


def test_mount_points_made_for_the_run_are_left_out(overlay: Overlay) -> None:
    overlay.below("etc/hostname", "h")
    overlay.run(
        "mkdir dev proc; touch etc/resolv.conf etc/hosts; mkdir -p run/secrets; touch run/secrets/key"
    )
    stubs = {b"dev", b"proc", b"etc/resolv.conf", b"etc/hosts", b"run", b"run/secrets", b"run/secrets/key"}
    assert overlay.diff(ignore=stubs).entries == []


def test_mount_points_that_came_to_hold_something_are_kept(overlay: Overlay) -> None:
    overlay.run("mkdir -p etc run/secrets; echo x > etc/hosts; touch etc/resolv.conf; echo > run/file")
    stubs = {b"etc", b"etc/resolv.conf", b"etc/hosts", b"run", b"run/secrets"}
    assert overlay.diff(ignore=stubs).paths == [b"etc", b"etc/hosts", b"run", b"run/file"]


def test_with_no_lower_tree_known_everything_is_written(overlay: Overlay) -> None:
    overlay.below("d/one", "1")
    overlay.below("o/one", "1")
    overlay.run("rm d/one; rm -r o; mkdir o")
    layer = overlay.diff(lower_known=False)
    assert layer.paths == [b"d", b"d/.wh.one", b"o", b"o/.wh..wh..opq"]


def test_owners_may_come_from_elsewhere(overlay: Overlay) -> None:
    overlay.below("same", "x", 0o644)
    overlay.run("chmod 600 same; chmod 644 same; echo > f; ln f hard; ln -s f link")
    os.setxattr(overlay.upper / "f", "user.minibuild.owner", b"5:6")

    def owner(
        info: os.stat_result, xattrs: Mapping[bytes, bytes], path: bytes, below: bytes | None
    ) -> tuple[int, int]:
        recorded = xattrs.get(b"user.minibuild.owner")
        if recorded is not None:
            uid, gid = recorded.split(b":")
            return int(uid), int(gid)
        return (9, 9) if stat.S_ISLNK(info.st_mode) else (0, 0)

    layer = overlay.diff(owner=owner)
    owners = [(entry.path, entry.uid, entry.gid) for entry in layer.entries]
    assert owners == [(b"f", 5, 6), (b"hard", 5, 6), (b"link", 9, 9)]


def test_odd_names_and_sizes_survive(overlay: Overlay) -> None:
    overlay.run("printf x > \"$(printf 'caf\\351')\"; truncate -s 3000000 sparse; touch ' '")
    layer = overlay.diff()
    assert layer.paths == [b" ", b"caf\xe9", b"sparse"]
    assert layer.at(b"sparse").size == 3_000_000


def test_folders_nested_too_deeply_are_an_error_and_no_crash(overlay: Overlay) -> None:
    overlay.run("i=0; while [ $i -lt 420 ]; do mkdir d; cd d; i=$((i+1)); done")
    with pytest.raises(LayerError, match="nested"):
        overlay.diff()


def test_deep_folders_are_walked(overlay: Overlay) -> None:
    overlay.below("top/f", "x")
    overlay.run("cd top; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; echo > f")
    layer = overlay.diff()
    assert len(layer.entries) == 302
    assert layer.paths[-1] == b"top" + b"/d" * 300 + b"/f"


def test_the_same_changes_give_the_same_layer(overlay: Overlay) -> None:
    overlay.below("d/one", "1")
    overlay.run("rm d/one; mkdir n; for i in 3 1 2; do echo $i > n/$i; done; find . -exec touch -hd @5 {} +")
    assert overlay.diff() == overlay.diff()


def test_no_descriptor_is_left_open(overlay: Overlay) -> None:
    overlay.below("d/one", "1")
    overlay.run("echo >> d/one; mkdir -p e/f; ln -s x e/l; echo > .wh.bad || true")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LayerError):
        overlay.diff()
    assert len(os.listdir("/proc/self/fd")) == before


def test_gnu_tar_unpacks_the_changes(overlay: Overlay, tmp_path: Path) -> None:
    overlay.below("d/one", "1")
    overlay.run("echo 2 >> d/one; ln d/one two; mkdir -m 700 e; ln -s e l; truncate -s 70000 e/z; rm -f x")
    blob = tmp_path / "layer.tar"
    blob.write_bytes(overlay.diff().blob)
    for tar in ("tar", "bsdtar"):
        root = tmp_path / tar
        root.mkdir()
        subprocess.run([tar, "-xpf", blob, "-C", root], check=True)
        done = subprocess.run(["diff", "-r", "--no-dereference", overlay.upper, root], capture_output=True)
        assert (done.returncode, done.stdout) == (0, b"")
        assert (root / "two").stat().st_ino == (root / "d/one").stat().st_ino
