"""Mounts where nothing can be mounted: put into the tree while a process runs, and taken out again.

What was at a place before is set aside meanwhile. A place is held by a descriptor of its parent folder,
so that what comes back goes where it was, whatever the process did to the path.
"""

from __future__ import annotations

import errno
import os
import stat

from minibuild.sandbox import mounts, paths, privatetree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibuild.sandbox.protocol import DeviceRequest, FolderRequest, MountRequest, SnapshotRequest

_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)

# A cache folder lent to the tree: its path there, and where it belongs.
Loan = tuple[str, str]


class Refused(Exception):
    """What is asked for cannot be had without mounts; `cure` says what would help."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = "Use a machine where namespaces work: minibuild doctor tells what is in the way."


class Places:
    """What was put into the tree `root_fd`; `aside` is an empty folder on the same file system."""

    def __init__(self, root_fd: int, aside: str) -> None:
        self._root_fd = root_fd
        self._aside = aside
        self._count = 0
        self._placed: list[tuple[int, str, str, str]] = []
        self.stubs: list[paths.Stub] = []
        self.loans: list[Loan] = []
        self.nodes: list[mounts.Node] = []

    def _new(self) -> str:
        self._count += 1
        return f"{self._aside}/{self._count}"

    def put(self, target: str, source: str, home: str = "") -> None:
        """Move `source` to `target` in the tree; `home` is where it goes back to, "" for nowhere."""
        folder = stat.S_ISDIR(os.lstat(source).st_mode)
        os.close(paths.ensure(self._root_fd, target, folder=folder, stubs=self.stubs))
        parts, missing = paths.resolve(self._root_fd, target)
        if missing or not parts:
            raise OSError(errno.EBUSY, f"mount on {target}: it is the root of the image")
        parent = paths.open_exact(self._root_fd, "/".join(parts[:-1]), os.O_RDONLY | os.O_DIRECTORY)
        kept = self._new()
        os.rename(parts[-1], kept, src_dir_fd=parent)
        if home:
            self.loans.append(("/".join(parts), home))
        os.rename(source, parts[-1], dst_dir_fd=parent)
        self._placed.append((parent, parts[-1], kept, home))

    def take_out(self) -> None:
        """Undo all `put`, the last first; needs that no process is left."""
        for parent, name, kept, home in reversed(self._placed):
            here = f"/proc/self/fd/{parent}/{name}"
            try:
                if home:
                    _go_home(parent, name, home)
                else:
                    privatetree.remove(os.fsencode(here))
                privatetree.remove(os.fsencode(here))
                os.rename(kept, name, dst_dir_fd=parent)
            except FileNotFoundError:
                pass  # the process removed the folder around it
            os.close(parent)
        self._placed.clear()

    # -- kinds

    def dev(self) -> None:
        """A small /dev of device nodes, as far as the container may make them."""
        folder = self._new()
        os.mkdir(folder, 0o755)
        for name, major, minor in _DEVICES:
            path = f"{folder}/{name}"
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            except PermissionError:
                raise Refused("isolation chroot needs CAP_MKNOD to make /dev/null and its like") from None
            os.chmod(path, 0o666)
        os.mkdir(f"{folder}/shm")
        os.chmod(f"{folder}/shm", 0o1777)
        for target, name in (
            ("/proc/self/fd", "fd"),
            ("fd/0", "stdin"),
            ("fd/1", "stdout"),
            ("fd/2", "stderr"),
        ):
            os.symlink(target, f"{folder}/{name}")
        self.put("/dev", folder)

    def file(self, target: str, content: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        """A file, on the disk for the time."""
        path = self._new()
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        os.close(fd)
        self.put(target, path)

    def extra(self, mount: MountRequest) -> None:
        """One mount that the step asks for."""
        if mount["kind"] == "snapshot":
            self._snapshot(mount)
        elif mount["kind"] == "folder":
            self._folder(mount)
        elif mount["kind"] == "tmpfs":
            path = self._new()
            os.mkdir(path)
            os.chmod(path, 0o1777)
            self.put(mount["target"], path)
        elif mount["kind"] == "secret":
            self.file(mount["target"], mount["content"], mount["mode"], (mount["uid"], mount["gid"]))
        elif mount["kind"] == "device":
            self._device(mount)
        else:
            self._socket(mount["target"], mount["source"], mount["mode"], (mount["uid"], mount["gid"]))

    def _device(self, mount: DeviceRequest) -> None:
        path = self._new()
        try:
            os.mknod(path, mount["mode"], mount["device"])
        except PermissionError:
            raise Refused(f"isolation chroot needs CAP_MKNOD to make the device {mount['target']}") from None
        os.chmod(path, mount["mode"] & 0o7777)
        self.nodes.append((os.open(path, os.O_PATH), mount["uid"], mount["gid"]))
        self.put(mount["target"], path)

    def _socket(self, target: str, source: str, mode: int, owner: tuple[int, int]) -> None:
        path = self._new()
        try:
            os.link(source, path)
        except OSError:
            raise Refused(f"the socket for {target} is on another file system than the store") from None
        os.chown(path, *owner)
        os.chmod(path, mode)
        self.put(target, path)

    def _snapshot(self, mount: SnapshotRequest) -> None:
        """A copy, which a process may write to: nobody sees it again."""
        whole = self._new()
        os.mkdir(whole, 0o755)
        parts = [os.fsencode(part) for part in mount["subpath"].split("/") if part not in ("", ".")]
        if (
            not parts
            or b".." in parts
            or not privatetree.apply_part(mount["lowers"], os.fsencode(whole), parts)
        ):
            privatetree.empty(os.fsencode(whole))
            for lower in mount["lowers"]:
                privatetree.apply(os.fsencode(lower), os.fsencode(whole))
        whole_fd = os.open(whole, os.O_PATH | os.O_DIRECTORY)
        found, missing = paths.resolve(whole_fd, mount["subpath"])
        os.close(whole_fd)
        if missing:
            raise OSError(
                errno.ENOENT, f"mount {mount['target']}: {mount['subpath']}: no such file or folder"
            )
        self.put(mount["target"], "/".join((whole, *found)))

    def _folder(self, mount: FolderRequest) -> None:
        """A cache, lent to the tree; a read-only one is copied."""
        source = os.path.join(mount["source"], mount["subpath"])
        if mount["subpath"] and os.path.islink(source):
            raise OSError(errno.ELOOP, f"mount {mount['target']}: {mount['subpath']} is a link")
        if mount["readonly"]:
            path = self._new()
            os.mkdir(path, 0o755)
            if os.path.isdir(source):
                privatetree.apply(os.fsencode(source), os.fsencode(path))
            self.put(mount["target"], path)
            return
        mounts.make_folder(source, mount["mode"], mount["uid"], mount["gid"])
        try:
            self.put(mount["target"], source, source)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise Refused(
                f"the folder for {mount['target']} is on another file system than the store"
            ) from None


def _go_home(parent: int, name: str, home: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.rename(name, home, src_dir_fd=parent)


def bring_home(tree: str, loans: list[Loan]) -> None:
    """Bring lent folders back from a tree whose process was killed; what is not found is lost."""
    root_fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    for path, home in loans:
        if os.path.lexists(home):
            continue
        folder, _, name = path.rpartition("/")
        try:
            parent = paths.open_exact(root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
            _go_home(parent, name, home)
            os.close(parent)
        except OSError:
            continue
    os.close(root_fd)
