"""Handing a run to an OCI runtime: its root file system and the mounts are made here, the process there.

The runtime is started in the job's own process and mount namespaces and leaves its container behind as a
child of the job. So nothing can outlive the job, whatever the runtime does, and what it keeps of its own
(the bundle, its state) is on the job's scratch tmpfs and gone with it.
"""

from __future__ import annotations

import errno
import json
import marshal
import os
import signal
import stat

from minibuild.sandbox import bundle, mounts, paths, process, signals, syscalls, systemfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minibuild.sandbox import console
    from minibuild.sandbox.protocol import RunRequest

_NAME = "minibuild"
_ENVIRONMENT = {"PATH": process.DEFAULT_PATH}
_CONTROL_GROUPS = "/sys/fs/cgroup"
_MAX_LOG = 1 << 20
_FIRST_LINE = 256  # as long as the kernel reads it


class RuntimeFailed(Exception):
    """The runtime did not start the process; `message` is what it said."""

    def __init__(self, runtime: str, message: str) -> None:
        super().__init__(message)
        self.message = f"{os.path.basename(runtime)} cannot run this step: {message}"
        self.cure = "Give another runtime with --oci-runtime, or leave isolation at auto, which needs none."


def run(
    request: RunRequest, host: process.Host, system: systemfs.System, fds: list[int], notes_fd: int
) -> int:
    """In a job's process, the first of its process namespace: run it by the runtime; the exit code."""
    launch = Launch(request, host, system, tuple(fds[1:]))
    try:
        launch.prepare()
        launch.check_user_files()
    finally:
        if launch.stubs:
            os.write(notes_fd, marshal.dumps((launch.upper, launch.stubs)))
    return launch.hand_over()


class Table(mounts.Table):
    """The mounts of a run less /proc, which is the runtime's to make."""

    def proc(self) -> None:
        os.close(self._system_folder("proc"))

    def dev(self, terminal: str) -> None:
        super().dev("")  # the runtime opens /dev/console to cover it, and would so take the outer terminal
        if terminal:
            os.close(os.open("dev/console", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=self.root_fd))

    def _target(self, path: str, *, folder: bool) -> int:
        done, missing = paths.resolve(self.root_fd, path)
        if [*done, *missing][:1] == ["proc"] and path != "proc":
            raise OSError(errno.EPERM, f"mount on {path}: the OCI runtime covers /proc")
        return super()._target(path, folder=folder)

    def _new_scratch(self) -> str:
        upper = self._request["upper"]  # a path that the runtime finds too
        systemfs.new_scratch(upper, secret=True)  # the bundle holds the environment
        return upper


class Launch(process.Launch):
    """The steps from a fresh fork to the end of the runtime's container."""

    def __init__(
        self, request: RunRequest, host: process.Host, system: systemfs.System, stdio: tuple[int, ...]
    ) -> None:
        super().__init__(request, host, system, stdio)
        self._table = Table(request, system)
        self._scratch = request["upper"]
        self._ended: dict[int, int] = {}
        self._ended_by = 0

    def check_user_files(self) -> None:
        """Raise where the runtime, which looks into these files itself, might wait for them for ever."""
        for path in ("etc/passwd", "etc/group"):
            try:
                fd = paths.open_in_root(self._table.root_fd, path)
            except OSError:
                continue
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            os.close(fd)
            if not regular:
                raise RuntimeFailed(
                    self._request["runtime"][0], f"/{path} of the image is not a regular file"
                )

    def _executable(self, path: str, name: str) -> None:
        """A runtime has another exit code than a shell for a script without its interpreter: look before."""
        super()._executable(path, name)
        try:
            fd = paths.open_in_root(
                self._table.root_fd, os.path.join(self._cwd, path), os.O_RDONLY | os.O_NONBLOCK
            )
        except OSError:
            return
        start = os.read(fd, _FIRST_LINE)
        os.close(fd)
        words = start.partition(b"\n")[0][2:].split()
        if start.startswith(b"#!") and words:
            super()._executable(os.fsdecode(words[0]), name)

    def hand_over(self) -> int:
        """Have the runtime run the process and wait for it; its exit code as a shell has it."""
        request = self._request
        command = request["runtime"][0]
        self._hide()
        os.mkdir(f"{self._scratch}/bundle", 0o700)
        os.chdir(f"{self._scratch}/bundle")  # names of sockets must be short
        terminal = self._console()
        document = bundle.config(
            request,
            root=os.path.realpath(request["work"]),
            argv=self._argv(),
            env=self._env,
            cwd=self._cwd,
            user=self._user,
            capabilities=self._host.capabilities,
            terminal=terminal is not None,
        )
        try:
            text = json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RuntimeFailed(command, "an argument or a variable is not UTF-8, as JSON must be") from None
        with open("config.json", "wb") as file:
            file.write(text)
        if not self._create(terminal):
            return self._refused()
        if self._failure is not None:  # the runtime does not see it, and would have no exit code for it
            return self._say(self._failure)
        with open(f"{self._scratch}/pid") as file:
            pid = int(file.read())
        if not request["insecure"]:
            self._forbid_devices(pid)
        process_fd = -1
        if pid not in self._ended:
            process_fd = os.pidfd_open(pid)
            self._pass_signals_on(process_fd)  # one may come as soon as the process runs
        if not self._call(self._null(), "start", _NAME):
            return 128 + self._ended_by if self._ended_by else self._refused()
        return self._wait(pid, process_fd, terminal)

    def _console(self) -> console.Console | None:
        """A terminal of the runtime's making where the standard input is one."""
        if not self._terminal():
            return None
        from minibuild.sandbox import console  # still the host's

        return console.Console(self._stdio[0], "console")

    def _argv(self) -> tuple[str, ...]:
        """The arguments; a runtime looks for the program in PATH, and in none where that is not set."""
        argv = self._request["argv"]
        return argv if "PATH" in self._env or not self._program else (self._program, *argv[1:])

    def _hide(self) -> None:
        """Show the runtime the processes of this job, and no control groups in which it might leave some."""
        fd = syscalls.new_mount("proc", (), 0, "mount /proc for the OCI runtime")
        _attach(fd, "/proc", "mount /proc for the OCI runtime")
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            places = {line.split()[4]: line.partition(" - ")[2].split()[0] for line in file}
        if _CONTROL_GROUPS not in places:
            return
        if places[_CONTROL_GROUPS] == "cgroup2":  # without it in sight, runc insists on those of version 1
            fd = os.open(_CONTROL_GROUPS, os.O_PATH | os.O_DIRECTORY)
            syscalls.mount_setattr(fd, syscalls.ATTR_RDONLY, "protect control groups")
            os.close(fd)
            return
        fd = syscalls.new_mount("tmpfs", (), 0, "hide control groups")
        for place in places:
            if place.startswith(f"{_CONTROL_GROUPS}/"):
                try:  # noqa: SIM105  # contextlib would be one more module to load
                    os.mkdir(place.removeprefix(f"{_CONTROL_GROUPS}/"), 0o755, dir_fd=fd)
                except OSError:
                    pass
        syscalls.mount_setattr(fd, syscalls.ATTR_RDONLY, "hide control groups")
        _attach(fd, _CONTROL_GROUPS, "hide control groups")

    def _null(self) -> tuple[int, ...]:
        return (os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),) * 3

    def _create(self, terminal: console.Console | None) -> bool:
        """Have the runtime make the container, with our streams for its own; false where it cannot."""
        stdio = self._stdio
        if terminal or self._failure:  # what it says is in its log
            stdio = self._null()
        elif len(stdio) == 2:
            for fd in stdio:
                os.fchown(fd, self._user.uid, -1)
            stdio = (self._null()[0], *stdio)
        more = ("--console-socket", terminal.path) if terminal else ()
        return self._call(stdio, "create", "--pid-file", f"{self._scratch}/pid", *more, _NAME)

    def _call(self, stdio: tuple[int, ...], *arguments: str) -> bool:
        """Whether a command of the runtime succeeds."""
        runtime = self._request["runtime"]
        state = ("--root", f"{self._scratch}/state", "--log", f"{self._scratch}/log", "--log-format", "json")
        syscalls.close_on_exec_from(3)
        try:
            pid = os.posix_spawn(
                runtime[0],
                [*runtime, *state, *arguments],
                _ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)],
                setsigdef=[signal.SIGPIPE],
            )
        except OSError as error:
            raise RuntimeFailed(runtime[0], (error.strerror or str(error)).lower()) from None
        return self._reap(pid) == 0

    def _forbid_devices(self, pid: int) -> None:
        """Make the container's root `nodev` again: crun forgets it, and no device control group helps."""
        child = os.fork()
        if child == 0:
            try:
                namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
                syscalls.setns(namespace, syscalls.CLONE_NEWNS, "enter the container's mounts")
                syscalls.mount_setattr(os.open("/", os.O_PATH), syscalls.ATTR_NODEV, "forbid devices")
                os._exit(0)
            finally:
                os._exit(1)
        if self._reap(child):
            raise RuntimeFailed(self._request["runtime"][0], "devices of the image cannot be switched off")

    def _reap(self, pid: int) -> int:
        """Wait for a child, and keep how others ended meanwhile."""
        while pid not in self._ended:
            found, status = os.waitpid(-1, 0)
            self._ended[found] = os.waitstatus_to_exitcode(status)
        return self._ended[pid]

    def _refused(self) -> int:
        """The runtime gave up: for want of the program, as we had foreseen, or for a reason of its own."""
        said = _last_error(f"{self._scratch}/log")
        if self._failure is not None and (self._request["argv"][0] in said or "executable" in said):
            return self._say(self._failure)
        raise RuntimeFailed(self._request["runtime"][0], said or "it did not say why")

    def _say(self, failure: process.CannotStart) -> int:
        os.write(self._stdio[-1], failure.message.encode("utf-8", "surrogateescape") + b"\n")
        return failure.code

    def _wait(self, pid: int, process_fd: int, terminal: console.Console | None) -> int:
        if terminal:
            terminal.relay(process_fd)
        code = self._reap(pid)
        if code == -9 and self._ended_by:
            code = -self._ended_by
        return code if code >= 0 else 128 - code

    def _pass_signals_on(self, process_fd: int) -> None:
        def pass_on(number: int, _frame: object) -> None:
            sent = number
            if number in signals.DEADLY and signals.takes_default(process_fd, number):
                self._ended_by, sent = number, 9
            try:  # noqa: SIM105
                signal.pidfd_send_signal(process_fd, sent)
            except ProcessLookupError:
                pass

        for number in signals.PASSED_ON:
            signal.signal(number, pass_on)


def _attach(fd: int, place: str, operation: str) -> None:
    target = os.open(place, os.O_PATH | os.O_DIRECTORY)
    syscalls.move_mount(fd, target, operation)
    os.close(target)
    os.close(fd)


def _last_error(log: str) -> str:
    """The message of the last error in a runtime's log."""
    try:
        with open(log, errors="replace") as file:
            lines = file.read(_MAX_LOG).splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            if entry["level"] == "error":
                return str(entry["msg"])
        except (ValueError, KeyError, TypeError):
            continue
    return lines[-1] if lines else ""
