"""The mount table of a sandboxed process as data, and how it is applied.

What is mounted, and with which options, follows the defaults of containerd and runc that BuildKit
uses, less /run and with two differences: every file system is `nodev` except the device nodes bound
into /dev (there is no device cgroup to lean on), and whatever mount point had to be made is taken
back. A target is a descriptor resolved inside the root, never a path: images are hostile.
"""

from __future__ import annotations

import errno
import os
import stat

from minibuild.sandbox import devfs, overlay, paths, singleid, syscalls, systemfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibuild.sandbox.protocol import (
        DeviceRequest,
        FolderRequest,
        MountRequest,
        RunRequest,
        SnapshotRequest,
        SocketRequest,
    )

_SAFE = syscalls.ATTR_SAFE

if TYPE_CHECKING:
    # A device node that was made: a descriptor, and whom it belongs to, None for the process's user.
    Node = tuple[int, int | None, int | None]


class Table:
    """Mounts one job's tree, attached over its work folder; keeps the stubs that had to be made.

    Call `root` first, then the rest in any order, in a mount namespace of the job's own.
    """

    def __init__(self, request: RunRequest, system: systemfs.System) -> None:
        self._request = request
        self._system = system
        self._nodev = 0 if request["insecure"] else syscalls.ATTR_NODEV
        self._scratch = ""
        self._count = 0
        self.stubs: list[paths.Stub] = []
        self.root_fd = -1
        self.nodes: list[Node] = []

    def root(self) -> None:
        """The overlay over the work folder."""
        request = self._request
        fd = overlay.mount(
            request["lowers"], request["upper"], request["work"], self._nodev, "/", request["work"]
        )
        self._cover(fd, request["work"], "attach the root file system")
        self.root_fd = os.open(request["work"], os.O_PATH | os.O_DIRECTORY)
        os.close(fd)
        self._scratch = self._new_scratch()

    def _new_scratch(self) -> str:
        if any(mount["kind"] == "secret" for mount in self._request["mounts"]):
            return systemfs.new_scratch(self._request["upper"], secret=True)
        return self._system.scratch

    def _cover(self, mount_fd: int, folder: str, operation: str) -> None:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        syscalls.move_mount(mount_fd, place, operation)
        os.close(place)

    def _target(self, path: str, *, folder: bool) -> int:
        try:
            fd = paths.ensure(self.root_fd, path, folder=folder, stubs=self.stubs)
        except OSError as error:
            raise OSError(error.errno, f"make mount point {path}: {error.strerror}") from None
        here, root = os.fstat(fd), os.fstat(self.root_fd)
        if (here.st_dev, here.st_ino) == (root.st_dev, root.st_ino):
            raise OSError(errno.EBUSY, f"mount on {path}: it is the root of the image")
        return fd

    def _attach(self, mount_fd: int, path: str, *, folder: bool = True) -> None:
        target = self._target(path, folder=folder)
        syscalls.move_mount(mount_fd, target, f"mount on {path}")
        os.close(target)
        os.close(mount_fd)

    def _system_folder(self, name: str) -> int:
        """A target for /proc, /sys or /dev, which must be a plain folder."""
        try:
            found = os.stat(name, dir_fd=self.root_fd, follow_symlinks=False)
        except FileNotFoundError:
            return self._target(name, folder=True)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, f"mount on /{name}: it is not a plain folder in the image")
        return paths.open_exact(self.root_fd, name)

    def proc(self) -> None:
        """procfs of the job's process namespace."""
        os.close(self._move_in("proc"))

    def dev(self, terminal: str) -> None:
        """A small /dev; `terminal` is the path of a terminal that becomes /dev/console, or ""."""
        fd = self._move_in("dev")
        if terminal:
            devfs.bind_device(fd, terminal, "console")
        os.close(fd)

    def sys(self) -> None:
        """sysfs and control groups."""
        os.close(self._move_in("sys"))

    def _move_in(self, name: str) -> int:
        fd = self._system.take(name)
        target = self._system_folder(name)
        syscalls.move_mount(fd, target, f"mount on /{name}")
        os.close(target)
        return fd

    def file(self, path: str, content: bytes, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        """`content` as a read-only file at `path`, in memory only."""
        self._count += 1
        name = f"{self._scratch}/{self._count}"
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        singleid.give(fd, *owner)
        os.fchmod(fd, mode)
        os.close(fd)
        tree = syscalls.open_tree(syscalls.AT_FDCWD, name, f"bind {path}")
        safe = _SAFE & ~syscalls.ATTR_NOEXEC if mode & 0o111 else _SAFE  # a here-document may be a program
        syscalls.mount_setattr(tree, safe | syscalls.ATTR_RDONLY, f"bind {path}")
        self._attach(tree, path, folder=False)

    def extra(self, mount: MountRequest) -> None:
        """One mount that the step asks for."""
        if mount["kind"] == "snapshot":
            self._snapshot(mount)
        elif mount["kind"] == "folder":
            self._folder(mount)
        elif mount["kind"] == "tmpfs":
            size = (("size", str(mount["size"])),) if mount["size"] else ()
            options = (("mode", "1777"), *size)
            attributes = syscalls.ATTR_NOSUID | self._nodev
            fd = syscalls.new_mount("tmpfs", options, attributes, f"mount tmpfs {mount['target']}")
            self._attach(fd, mount["target"])
        elif mount["kind"] == "socket":
            self._socket(mount)
        elif mount["kind"] == "device":
            self._device(mount)
        else:
            owner = (mount["uid"], mount["gid"])
            self.file(mount["target"], mount["content"], mount["mode"], owner)

    def _snapshot(self, mount: SnapshotRequest) -> None:
        what = mount["target"]
        readonly = mount["readonly"]
        upper = work = ""
        if not readonly:
            self._count += 1
            base = f"{self._request['scratch'] or self._scratch}/rw{self._count}"
            upper, work = f"{base}/upper", f"{base}/work"
            for folder in (base, upper, work):
                os.mkdir(folder, 0o755)
        attributes = self._nodev | (syscalls.ATTR_RDONLY if readonly else 0)
        place = f"{self._scratch}/place"
        if not mount["lowers"] and readonly:
            upper = f"{self._scratch}/empty"
        fd = overlay.mount(mount["lowers"], upper, work, attributes, what, place)
        if not mount["subpath"].strip("/"):
            self._attach(fd, what)
            return
        # A folder inside a mount can be cloned only while the mount is attached somewhere.
        self._cover(fd, place, f"attach {what}")
        os.close(fd)
        fd = os.open(place, os.O_PATH | os.O_DIRECTORY)
        try:
            inner = paths.open_in_root(fd, mount["subpath"])
        except OSError as error:
            raise OSError(error.errno, f"mount {what}: {mount['subpath']}: {error.strerror}") from None
        tree = syscalls.open_tree(inner, "", f"bind {what}")
        is_folder = stat.S_ISDIR(os.fstat(inner).st_mode)
        os.close(inner)
        os.close(fd)
        syscalls.umount(place, f"detach {what}")
        self._attach(tree, what, folder=is_folder)

    def _folder(self, mount: FolderRequest) -> None:
        source, subpath = mount["source"], mount["subpath"]
        make_folder(os.path.join(source, subpath), mount["mode"], mount["uid"], mount["gid"])
        fd = os.open(source, os.O_PATH)
        if subpath:
            source_fd = fd
            try:
                fd = paths.open_in_root(source_fd, subpath)
            except OSError as error:
                raise OSError(error.errno, f"mount {mount['target']}: {subpath}: {error.strerror}") from None
            os.close(source_fd)
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        tree = syscalls.open_tree(fd, "", f"bind {mount['target']}")
        os.close(fd)
        attributes = self._nodev | (syscalls.ATTR_RDONLY if mount["readonly"] else 0)
        syscalls.mount_setattr(tree, attributes, f"bind {mount['target']}")
        self._attach(tree, mount["target"], folder=is_folder)

    def _socket(self, mount: SocketRequest) -> None:
        fd = os.open(mount["source"], os.O_PATH | os.O_NOFOLLOW)
        if not singleid.active():  # there every user is the one that made it
            os.chown(f"/proc/self/fd/{fd}", mount["uid"], mount["gid"])
        os.chmod(f"/proc/self/fd/{fd}", mount["mode"])
        tree = syscalls.open_tree(fd, "", f"bind {mount['target']}")
        os.close(fd)
        syscalls.mount_setattr(tree, _SAFE, f"bind {mount['target']}")
        self._attach(tree, mount["target"], folder=False)

    def _device(self, mount: DeviceRequest) -> None:
        """A node made for this process, or else the host's own."""
        what = f"make device {mount['target']}"
        place = f"{self._scratch}/place"
        fd = syscalls.new_mount("tmpfs", (("mode", "0700"),), _SAFE & ~syscalls.ATTR_NODEV, what)
        self._cover(fd, place, what)
        os.close(fd)
        node = f"{place}/node"
        try:
            os.mknod(node, mount["mode"], mount["device"])
            os.chmod(node, mount["mode"] & 0o7777)
            tree = syscalls.open_tree(syscalls.AT_FDCWD, node, what)
            self.nodes.append((os.open(node, os.O_PATH), mount["uid"], mount["gid"]))
        except PermissionError:
            tree = syscalls.open_tree(syscalls.AT_FDCWD, mount["source"], f"bind {mount['source']}")
            syscalls.mount_setattr(tree, _SAFE & ~syscalls.ATTR_NODEV, f"bind {mount['source']}")
        syscalls.umount(place, what)
        self._attach(tree, mount["target"], folder=False)


def own_nodes(nodes: list[Node], uid: int, gid: int) -> None:
    """Give nodes that were made to whom they are for, `uid` and `gid` being the process's."""
    for fd, owner, group in nodes:
        syscalls.chown_fd(fd, uid if owner is None else owner, gid if group is None else group)
        os.close(fd)


def make_folder(path: str, mode: int, uid: int, gid: int) -> None:
    """Make `path` with owner and mode where it is missing; its parents belong to root, 0755.

    Made under another name and renamed, so that no one meets it half done.
    """
    if os.path.lexists(path):
        return
    parent, _, name = path.rstrip("/").rpartition("/")
    os.makedirs(parent, 0o755, exist_ok=True)
    temporary = f"{parent}/.{name}.{os.urandom(8).hex()}"
    os.mkdir(temporary, 0o700)
    singleid.give(temporary, uid, gid)
    os.chmod(temporary, mode)
    try:
        syscalls.rename_exclusive(temporary, path)
    except FileExistsError:
        os.rmdir(temporary)
