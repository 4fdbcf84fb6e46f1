"""Running steps as root with no namespaces and no mounts: in a container with its engine's defaults.

Each run changes its root folder to a private tree (`privatetree`) that one run of a stage hands on to
the next. The tree never is the builder's own root. Nothing keeps the process from the builder and its
other processes but the container around both; there is no /proc.
"""

from __future__ import annotations

import marshal
import os
import time

from minibuild.sandbox import (
    capabilities,
    caps,
    paths,
    placing,
    privatetree,
    process,
    signals,
    syscalls,
    systemfs,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    from minibuild.sandbox import mounts, treepicture
    from minibuild.sandbox.protocol import RunRequest

_MOMENT = 0.002
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER

_state = {"active": False}


def active() -> bool:
    """Whether this process works without mounts."""
    return _state["active"]


def enter() -> None:
    """In the holder: what is left behind by jobs becomes our child, and `active` is true from now on."""
    from minibuild.sandbox import treechanges, treepicture  # noqa: F401  # each run's own process has them then

    _state["active"] = True
    adopt()


def adopt() -> None:
    """Have processes below this one become its children when their parent ends."""
    syscalls.prctl(_SUBREAPER, 1)


class Launch(process.Launch):
    """A run in a tree of its own: the steps from a fresh fork to execve."""

    def __init__(
        self, request: RunRequest, host: process.Host, system: systemfs.System, stdio: tuple[int, ...]
    ) -> None:
        super().__init__(request, host, system, stdio)
        self._tree = request["tree"]
        self._before: Iterable[treepicture.Seen] = ()
        self._places: placing.Places | None = None

    def prepare(self) -> None:
        from minibuild.sandbox import treepicture

        request = self._request
        if request["network"] == "none":
            raise placing.Refused(
                "a network of its own needs namespaces, which isolation chroot does not have"
            )
        if request["insecure"]:
            raise placing.Refused("isolation chroot has no more rights to give to an insecure step")
        for group in request["cgroups"]:
            process.join(group)
        if request["ulimits"]:
            import resource  # still the host's

            self._resource = resource
        self._fill()
        tree, room = os.fsencode(self._tree), request["work"]
        self._before = treepicture.Picture(treepicture.walk(tree, room), room)
        upper = os.fsencode(request["upper"])
        if os.listdir(upper):  # a failed run's, to be gone on with
            privatetree.apply(upper, os.fsencode(self._tree))
            privatetree.empty(upper)
        self._table.root_fd = os.open(self._tree, os.O_PATH | os.O_DIRECTORY)
        self._place_all()
        self._resolve_user()
        self._resolve_cwd()
        self._find_program()

    @property
    def _nodes(self) -> list[mounts.Node]:
        return self._places.nodes if self._places else []

    def _fill(self) -> None:
        os.makedirs(self._tree, 0o755, exist_ok=True)
        for lower in self._request["lowers"][self._request["applied"] :]:
            privatetree.apply(os.fsencode(lower), os.fsencode(self._tree))

    def _place_all(self) -> None:
        request = self._request
        aside = f"{request['work']}/aside-{os.urandom(6).hex()}"
        os.mkdir(aside, 0o700)
        places = self._places = placing.Places(self._table.root_fd, aside)
        places.dev()
        resolv_conf = request["resolv_conf"]
        places.file(
            "/etc/resolv.conf", process.host_file("/etc/resolv.conf") if resolv_conf is None else resolv_conf
        )
        places.file("/etc/hosts", process.hosts_file(request["hostname"], request["hosts"]))
        for mount in sorted(request["mounts"], key=lambda mount: mount["target"].split("/")):
            places.extra(mount)

    @property
    def loans(self) -> list[placing.Loan]:
        """Folders that are in the tree only for now."""
        return self._places.loans if self._places else []

    def enter(self) -> None:
        """Leave the host's folders behind: from here on only system calls."""
        os.fchdir(self._table.root_fd)
        os.chroot(".")
        self._take_stdio()
        os.chdir(self._cwd)
        os.setsid()
        syscalls.take_terminal(0)
        syscalls.default_signals()
        syscalls.close_on_exec_from(3)
        self._drop_rights()

    def _drop_rights(self) -> None:
        for number, soft, hard in self._request["ulimits"]:
            self._resource.setrlimit(number, (soft, hard))
        kept = capabilities.DEFAULT & self._host.capabilities
        if self._host.capabilities >> capabilities.SETPCAP & 1:
            caps.limit_bounding(self._host.last_capability)
        os.setgroups(self._user.groups)
        os.setresgid(self._user.gid, self._user.gid, self._user.gid)
        os.setresuid(self._user.uid, self._user.uid, self._user.uid)
        if self._user.uid == 0:
            caps.limit_process(kept)

    def take_back(self) -> None:
        """Take out of the tree what was put there for the run; all processes are gone."""
        if self._places is not None:
            self._places.take_out()
            paths.remove_stubs(self._tree, self._places.stubs)

    def collect(self) -> None:
        """Copy what the run has changed to its upper folder."""
        from minibuild.sandbox import treechanges

        request = self._request
        tree, upper = os.fsencode(self._tree), os.fsencode(request["upper"])
        treechanges.copy_changes(tree, self._before, request["lowers"], upper, request["work"])


def run(
    request: RunRequest,
    host: process.Host,
    system: systemfs.System,
    fds: list[int],
    notes_fd: int,
    report: Callable[[int, BaseException], None],
) -> int:
    """In a job's process: run it in a child, then put things in order; the exit code."""
    import signal  # still the host's

    adopt()
    launch = Launch(request, host, system, tuple(fds[1:]))
    pid = -1
    try:
        try:
            launch.prepare()
        finally:
            os.write(notes_fd, marshal.dumps((request["tree"], launch.loans)))
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.PASSED_ON)  # until there is whom to pass them on to
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.PASSED_ON)
            _child(launch, fds[0], report)
        for fd in fds[1:]:
            os.close(fd)
        code = _wait(pid)
    finally:
        if pid:
            kill_children(())
            launch.take_back()
    launch.collect()
    if code == 0:
        os.close(os.open(f"{request['work']}/done", os.O_CREAT | os.O_WRONLY, 0o600))  # see `trees`
    return code


def _child(launch: Launch, socket_fd: int, report: Callable[[int, BaseException], None]) -> None:
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
        launch.enter()
        code = launch.execute()
    except BaseException as error:
        report(socket_fd, error)
    finally:
        os._exit(code)


def _wait(pid: int) -> int:
    """Wait for the process, passing signals on to it; its exit code as a shell has it."""
    import signal  # still the host's

    def pass_on(number: int, _frame: object) -> None:
        try:  # noqa: SIM105
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    for number in signals.PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.PASSED_ON)
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def kill_children(spared: Collection[int]) -> None:
    """Kill the children of this process and theirs, as they become ours, until only `spared` are left."""
    while victims := [pid for pid in _children() if pid not in spared]:
        # One that another of them traces ends for us only with the tracer: kill all before waiting for any.
        for pid in victims:
            _try(os.kill, pid, 9)
        if not any([_try(os.waitpid, pid, os.WNOHANG)[0] for pid in victims]):
            time.sleep(_MOMENT)


def _try(call: Callable[[int, int], Any], pid: int, argument: int) -> Any:
    try:
        return call(pid, argument)
    except (ProcessLookupError, ChildProcessError):
        return (pid, 0)


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        pass
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == own:
                        found.append(int(name))
            except OSError:
                continue
    return found
