"""/proc, /sys and /dev of a sandboxed process, which can be made before it is known what is to run.

They wait in a tmpfs over the host's root, where no path leads, and are moved into the image. What is in them
follows runc; what it masks there is masked here.
"""

from __future__ import annotations

import os
import stat

from minibuild.sandbox import devfs, paths, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibuild.sandbox.protocol import RunRequest

_SAFE = syscalls.ATTR_SAFE
_NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS

MASKED_PROC = (
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
)
_MASKED_SYS = ("firmware", "devices/virtual/powercap")
READONLY_PROC = ("bus", "dynamic_debug", "fs", "irq", "sys", "sysrq-trigger")


class System:
    """The namespaces of one run and these folders; in the run's process, process 1 of its own namespace."""

    def __init__(self, *, unified_cgroup: bool) -> None:
        self._unified_cgroup = unified_cgroup
        self._insecure = False
        self._shm_size = 0
        self._made: dict[str, int] = {}
        self.scratch = ""  # a tmpfs for our own files, with folders ``empty`` and ``place``
        self.shows_others = False  # whether /proc has more than the processes of this job

    def prepare(self) -> None:
        """Enter the namespaces and make what most runs need; raises `OSError`."""
        syscalls.unshare(_NAMESPACES, "make namespaces")
        self.scratch = new_scratch("/")
        for name in ("proc", "dev", "sys"):
            os.mkdir(f"{self.scratch}/{name}")
            self._made[name] = self._make(name)

    def suit(self, request: RunRequest) -> None:
        """Make anew what this run wants otherwise; its control groups are joined already."""
        # Not before: out of a namespace of control groups, none can be joined that is not below its root.
        flags = syscalls.CLONE_NEWCGROUP if self._unified_cgroup else 0
        if request["network"] == "none":
            flags |= syscalls.CLONE_NEWNET
        if flags:
            syscalls.unshare(flags, "make namespaces")
        if flags & syscalls.CLONE_NEWNET:
            syscalls.raise_loopback()
        self._insecure = request["insecure"]
        self._shm_size = request["shm_size"]
        for name, fits in (
            ("proc", not self._insecure),
            ("dev", not self._insecure and not self._shm_size),
            ("sys", not self._insecure and not flags & syscalls.CLONE_NEWNET),
        ):
            if not fits:
                os.close(self._made[name])
                syscalls.umount(f"{self.scratch}/{name}", f"make another /{name}")
                self._made[name] = self._make(name)
        if self._unified_cgroup:
            self._cgroup(self._made["sys"])

    def take(self, name: str) -> int:
        """The mount for the folder `name` of the root, to be moved there."""
        return self._made.pop(name)

    def leave(self) -> None:
        """Take our tmpfs off the root, or pivot_root would leave the host's behind it."""
        syscalls.umount(self.scratch, "detach the scratch tmpfs")

    def _make(self, name: str) -> int:
        return {"proc": self._proc, "dev": self._dev, "sys": self._sys}[name]()

    def _attach(self, fd: int, name: str) -> None:
        place = os.open(f"{self.scratch}/{name}", os.O_PATH | os.O_DIRECTORY)
        syscalls.move_mount(fd, place, f"mount /{name}")
        os.close(place)

    def _proc(self) -> int:
        """procfs of the job's process namespace, with runc's masks."""
        try:
            fd = syscalls.new_mount("proc", (), _SAFE, "mount /proc")
        except PermissionError:
            # The outer /proc is masked, so no other may show what it hides: take it as it is. What belongs to
            # processes outside is closed to ours by their user namespace (for other runs see `apart`); their
            # command lines are not.
            self.shows_others = True
            fd = syscalls.open_tree(syscalls.AT_FDCWD, "/proc", "bind /proc", recursive=True)
            syscalls.mount_setattr(fd, _SAFE, "bind /proc", recursive=True)
        self._attach(fd, "proc")
        if not self._insecure:
            self._mask(fd, MASKED_PROC)
            for name in READONLY_PROC:
                _make_readonly(fd, name)
        return fd

    def _dev(self) -> int:
        options = (("mode", "755"), ("size", "67108864"))
        nodev = 0 if self._insecure else syscalls.ATTR_NODEV
        attributes = syscalls.ATTR_NOSUID | syscalls.ATTR_STRICTATIME | nodev
        fd = syscalls.new_mount("tmpfs", options, attributes, "mount /dev")
        self._attach(fd, "dev")
        devfs.fill(fd, shm_size=self._shm_size)
        return fd

    def _sys(self) -> int:
        """sysfs, read-only; the host's /sys bound where this user may not mount one."""
        readonly = self._readonly()
        try:
            fd = syscalls.new_mount("sysfs", (), _SAFE | readonly, "mount /sys")
            fresh = True
        except PermissionError:
            # Only the owner of the network namespace may mount sysfs.
            fd = syscalls.open_tree(syscalls.AT_FDCWD, "/sys", "bind /sys", recursive=True)
            syscalls.mount_setattr(fd, _SAFE | readonly, "bind /sys", recursive=True)
            fresh = False
        self._attach(fd, "sys")
        if fresh and not self._unified_cgroup:
            self._cgroup(fd)
        if not self._insecure:
            self._mask(fd, _MASKED_SYS)
        return fd

    def _readonly(self) -> int:
        return 0 if self._insecure else syscalls.ATTR_RDONLY

    def _cgroup(self, sys_fd: int) -> None:
        """Control groups, for programs that size themselves by them; left out where not allowed."""
        readonly = self._readonly()
        try:
            if self._unified_cgroup:
                fd = syscalls.new_mount("cgroup2", (), _SAFE | readonly, "mount /sys/fs/cgroup")
            else:
                fd = syscalls.open_tree(
                    syscalls.AT_FDCWD, "/sys/fs/cgroup", "bind /sys/fs/cgroup", recursive=True
                )
                syscalls.mount_setattr(fd, _SAFE | readonly, "bind /sys/fs/cgroup", recursive=True)
            target = paths.open_exact(sys_fd, "fs/cgroup")
            syscalls.move_mount(fd, target, "mount on /sys/fs/cgroup")
        except OSError:
            return
        os.close(target)
        os.close(fd)

    def _mask(self, mount_fd: int, names: tuple[str, ...]) -> None:
        for name in names:
            try:
                target = paths.open_exact(mount_fd, name)
            except OSError:
                continue  # this kernel has no such file
            folder = stat.S_ISDIR(os.fstat(target).st_mode)
            source = f"{self.scratch}/empty" if folder else "/dev/null"
            tree = syscalls.open_tree(syscalls.AT_FDCWD, source, f"mask {name}")
            if folder:
                syscalls.mount_setattr(tree, _SAFE | syscalls.ATTR_RDONLY, f"mask {name}")
            syscalls.move_mount(tree, target, f"mask {name}")
            os.close(tree)
            os.close(target)


def _make_readonly(mount_fd: int, name: str) -> None:
    try:
        target = paths.open_exact(mount_fd, name)
    except OSError:
        return
    operation = f"make {name} read-only"
    tree = syscalls.open_tree(target, "", operation, recursive=True)
    syscalls.mount_setattr(tree, _SAFE | syscalls.ATTR_RDONLY, operation, recursive=True)
    syscalls.move_mount(tree, target, operation)
    os.close(tree)
    os.close(target)


def new_scratch(folder: str, *, secret: bool = False) -> str:
    """Cover `folder` with a tmpfs for our own files; the path to it.

    One for secrets is never swapped out where the kernel offers that (root, Linux 6.4).
    """
    attributes = _SAFE & ~syscalls.ATTR_NOEXEC
    what = "mount the scratch tmpfs"
    fd = -1
    if secret:
        try:  # noqa: SIM105  # contextlib would be one more module to load
            fd = syscalls.new_mount("tmpfs", (("mode", "0700"), ("noswap", "")), attributes, what)
        except OSError:
            pass
    if fd < 0:
        fd = syscalls.new_mount("tmpfs", (("mode", "0700"),), attributes, what)
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    syscalls.move_mount(fd, place, "attach the scratch tmpfs")
    os.close(place)
    scratch = f"/proc/self/fd/{fd}"
    for name in ("empty", "place"):
        os.mkdir(f"{scratch}/{name}", 0o755)
    return scratch
