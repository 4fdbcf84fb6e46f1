"""A run job from fork to exec, in the forked child: process 1 of its own process namespace.

Everything that needs the host (mounts, users, the program's path) is settled before pivot_root.
After it only system calls are made: an import, a codec or a name service lookup would be answered
out of the image, and run its code with full capabilities.
"""

from __future__ import annotations

import errno
import os
import stat

from minibuild.sandbox import apart, caps, mounts, paths, singleid, syscalls, systemfs, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minibuild.sandbox.protocol import RunRequest

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """What the holder learned once about this machine and its own rights."""

    __slots__ = ("capabilities", "last_capability", "seccomp_address", "single", "unified_cgroup")

    def __init__(
        self,
        *,
        unified_cgroup: bool,
        last_capability: int,
        capabilities: int,
        seccomp_address: int,
        single: singleid.Single | None = None,
    ) -> None:
        self.single = single  # where only one id is mapped
        self.unified_cgroup = unified_cgroup
        self.last_capability = last_capability
        self.capabilities = capabilities
        self.seccomp_address = seccomp_address


class CannotStart(Exception):
    """The program cannot be executed; `code` is what a shell would exit with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Launch:
    """The steps from a request to execve, in order; `prepare` may fail with `OSError`."""

    def __init__(
        self, request: RunRequest, host: Host, system: systemfs.System, stdio: tuple[int, ...]
    ) -> None:
        self._request = request
        self._host = host
        # Standard input, output and error; two of them where input is empty and the pipes are ours.
        self._stdio = stdio
        self._system = system
        self._table = mounts.Table(request, system)
        self._user = users.User(0, 0, (0,), "/")
        self._cwd = "/"
        self._env: dict[str, str] = {}
        self._program = ""
        self._failure: CannotStart | None = None
        self._resource: Any = None
        self._apart: apart.Apart | None = None

    @property
    def upper(self) -> str:
        """The folder that takes the changes."""
        return self._request["upper"]

    @property
    def stubs(self) -> list[paths.Stub]:
        """What had to be made in the image to mount on, to be taken back by `paths.remove_stubs`."""
        return self._table.stubs

    @property
    def _nodes(self) -> list[mounts.Node]:
        return self._table.nodes

    def prepare(self) -> None:
        """Mounts, user, working folder and program, all still with the host in view."""
        request = self._request
        for group in request["cgroups"]:
            join(group)
        if request["ulimits"]:
            import resource  # still the host's

            self._resource = resource
        self._system.suit(request)
        syscalls.set_hostname(request["hostname"])
        if request["insecure"]:
            syscalls.new_session_keyring()  # the others cannot make a call that uses one
        self._mount_all()
        if self._system.shows_others and not request["insecure"] and not self._host.single:
            self._apart = apart.Apart()
        self._resolve_user()
        self._resolve_cwd()
        self._find_program()
        self._system.leave()

    def _mount_all(self) -> None:
        request = self._request
        table = self._table
        table.root()
        table.proc()
        table.dev(self._terminal())
        table.sys()
        resolv_conf = request["resolv_conf"]
        table.file("/etc/resolv.conf", host_file("/etc/resolv.conf") if resolv_conf is None else resolv_conf)
        if self._host.single:
            table.file(singleid.APT_CONFIG, singleid.apt_config(request["env"]))
        table.file("/etc/hosts", hosts_file(request["hostname"], request["hosts"]))
        for mount in sorted(request["mounts"], key=lambda mount: mount["target"].split("/")):
            table.extra(mount)

    def _terminal(self) -> str:
        """The path of the terminal that is the standard input, "" where it is none."""
        if len(self._stdio) < 3:
            return ""
        try:
            return os.ttyname(self._stdio[0])
        except OSError:
            return ""

    def _resolve_user(self) -> None:
        root_fd = self._table.root_fd
        passwd = paths.read_user_file(root_fd, "etc/passwd")
        group = paths.read_user_file(root_fd, "etc/group")
        self._user = users.resolve(self._request["user"], passwd, group)
        self._user.groups = tuple(dict.fromkeys((*self._user.groups, *self._request["groups"])))
        mounts.own_nodes(self._nodes, self._user.uid, self._user.gid)
        self._env = dict(self._request["env"])
        self._env["HOME"] = self._env.get("HOME") or self._user.home
        if self._host.single:
            self._env["APT_CONFIG"] = singleid.APT_CONFIG

    def _resolve_cwd(self) -> None:
        self._cwd = os.path.join("/", self._request["cwd"])
        root_fd = self._table.root_fd
        try:
            fd = paths.ensure(root_fd, self._cwd, folder=True, owner=(self._user.uid, self._user.gid))
        except OSError as error:
            raise OSError(error.errno, f"make working folder {self._cwd}: {error.strerror}") from None
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        os.close(fd)
        if not folder:
            raise OSError(errno.ENOTDIR, f"working folder {self._cwd} is not a folder")

    def _find_program(self) -> None:
        try:
            self._program = self._look_up(self._request["argv"][0])
        except CannotStart as failure:
            self._failure = failure

    def _look_up(self, name: str) -> str:
        """The path of the program `name` as Go's exec.LookPath finds it, which runc uses."""
        if "/" in name:
            self._executable(name, name)
            return name
        for folder in self._env.get("PATH", DEFAULT_PATH).split(":"):
            candidate = os.path.join(folder or ".", name)
            try:
                self._executable(candidate, name)
            except CannotStart:
                continue
            return candidate
        raise CannotStart(f'exec: "{name}": executable file not found in $PATH', 127)

    def _executable(self, path: str, name: str) -> None:
        try:
            fd = paths.open_in_root(self._table.root_fd, os.path.join(self._cwd, path))
        except OSError as error:
            code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
            raise CannotStart(f'exec: "{name}": stat {path}: {_reason(error)}', code) from None
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise CannotStart(f'exec: "{name}": is a directory', 126)
        if not mode & 0o111:
            raise CannotStart(f'exec: "{name}": permission denied', 126)

    def enter(self) -> None:
        """Leave the host behind: from here on only system calls."""
        os.fchdir(self._table.root_fd)
        syscalls.pivot_here("pivot_root")
        self._take_stdio()
        os.chdir(self._cwd)
        os.setsid()
        syscalls.take_terminal(0)
        syscalls.default_signal(13)  # the holder has put all others at their default
        syscalls.close_on_exec_from(3)
        self._drop_rights()

    def _take_stdio(self) -> None:
        stdio = self._stdio
        if len(stdio) == 2:
            null = os.open("/dev/null", os.O_RDONLY)
            for fd in stdio:
                # /dev/stdout opens the pipe again by name, which its owner may do (as runc arranges).
                if not self._host.single:
                    os.fchown(fd, self._user.uid, -1)
            stdio = (null, *stdio)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)

    def _drop_rights(self) -> None:
        insecure = self._request["insecure"]
        for number, soft, hard in self._request["ulimits"]:
            self._resource.setrlimit(number, (soft, hard))
        if self._host.single:
            self._host.single.drop_rights(
                self._user,
                self._request["upper"],
                self._host.last_capability,
                insecure=insecure,
                apart=self._system.shows_others and not insecure,
            )
            if insecure:
                caps.keep_all(self._host.capabilities)
            elif self._user.uid == 0:
                caps.limit_process()
            return
        if self._apart is not None:
            self._apart.enter()
        if insecure:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        else:
            caps.limit_bounding(self._host.last_capability)
            # With CAP_SYS_ADMIN still held no_new_privs is not needed, so sudo and su keep working.
            if self._host.seccomp_address:
                syscalls.load_seccomp(self._host.seccomp_address)
        os.setgroups(self._user.groups)
        os.setresgid(self._user.gid, self._user.gid, self._user.gid)
        os.setresuid(self._user.uid, self._user.uid, self._user.uid)
        if insecure:
            caps.keep_all(self._host.capabilities)
        elif self._user.uid == 0:
            caps.limit_process()

    def execute(self) -> int:
        """Run the program; returns only on failure, with the code to exit with after saying why."""
        failure = self._failure
        if failure is None:
            try:
                os.execve(self._program, self._request["argv"], self._env)
            except OSError as error:
                code = 127 if error.errno == errno.ENOENT else 126
                failure = CannotStart(f'exec: "{self._request["argv"][0]}": {_reason(error)}', code)
        os.write(2, failure.message.encode("utf-8", "surrogateescape") + b"\n")
        return failure.code


def join(group: str) -> None:
    """Move this process into a control group."""
    try:
        fd = os.open(f"{group}/cgroup.procs", os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"join control group {group}: {error.strerror}") from None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def host_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def hosts_file(hostname: str, extra: tuple[tuple[str, str], ...]) -> bytes:
    """/etc/hosts as BuildKit writes it."""
    lines = [f"127.0.0.1\tlocalhost {hostname}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{name}" for address, name in extra]
    return ("\n".join(lines) + "\n").encode()
