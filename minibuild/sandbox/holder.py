"""The holder: a small single-threaded process that owns the namespaces and forks a child for each run.

Other jobs are done by a worker, a child that stays for the next one. One is forked at once, before anybody
has asked, and after the first run the child of the next. What they load they load themselves: a small holder
is forked quickly.

Two processes. The outer one is what the client starts: it makes the user namespace where one is
needed, then forks the inner one as process 1 of a new process namespace, which serves the jobs. When
the inner one ends, for whatever reason, the kernel kills everything below it; it ends when the client
is gone (end of the control socket) or the outer process is (parent death signal).
"""

from __future__ import annotations

import _socket
import errno
import gc
import marshal
import os
import select

from minibuild.sandbox import (
    capabilities,
    chroot,
    paths,
    placing,
    process,
    protocol,
    seccomp,
    signals,
    singleid,
    syscalls,
)
from minibuild.sandbox.child import begin

_WORKERS = max(2, os.cpu_count() or 1)  # more would only wait for each other
_QUIET_MS = 100
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Child:
    """A forked child: its process descriptor, its job's socket to the client (-1 for none), its notes.

    `line` is the socket by which it gets its jobs, None where it gets no more.
    """

    __slots__ = ("ended_by", "killed", "kind", "line", "notes_fd", "number", "pid", "process_fd", "socket_fd")

    def __init__(self, kind: bytes, pid: int, notes_fd: int, line: _socket.socket) -> None:
        self.kind = kind
        self.number = 0
        self.pid = pid
        self.ended_by = 0
        self.killed = False
        self.socket_fd = -1
        self.notes_fd = notes_fd
        self.line: _socket.socket | None = line
        self.process_fd = os.pidfd_open(pid)


def main(control_fd: int, client_pid: int, *, ids: str) -> None:
    """Serve the client at the other end of `control_fd`; returns in the outer process, at the end.

    `ids` is "" to stay in the user namespace we are in, "mapped" for one whose ids the client maps,
    "single" for one with no id but our own, "chroot" for no namespaces at all.
    """
    control = _socket.socket(fileno=control_fd)
    client_fd = os.pidfd_open(client_pid)
    if os.getppid() != client_pid:
        return
    single = None
    try:
        if ids == "single":
            singleid.enter()
            single = singleid.Single()
        if ids == "chroot":
            chroot.enter()
        pid = _fork_inner() if chroot.active() else _enter_namespaces(control, ids == "mapped")
        if pid == 0:
            Holder(control, single).serve()
            os._exit(0)
    except OSError as error:
        control.send(b"E" + marshal.dumps((error.errno or 0, error.strerror or str(error))))
        os._exit(1)
    control.close()
    # The client's sockets may outlive it in processes that it forked: watch the client itself too.
    ends = select.poll()
    ends.register(client_fd, select.POLLIN)
    inner_fd = os.pidfd_open(pid)
    ends.register(inner_fd, select.POLLIN)
    supervise = single.supervise(ends) if single else None
    while True:
        ready = ends.poll()
        if supervise is None or any(fd in (client_fd, inner_fd) for fd, _ in ready):
            break
        for fd, events in ready:
            supervise(fd, events)
    os.kill(pid, 9)
    os.waitpid(pid, 0)  # over only when everything below it is
    if chroot.active():
        chroot.kill_children(())


def _enter_namespaces(control: _socket.socket, user_namespace: bool) -> int:
    """Make the namespaces and fork into them; 0 in the inner process."""
    if user_namespace:
        syscalls.unshare(syscalls.CLONE_NEWUSER, "make a user namespace")
        control.send(b"M")  # the client maps our ids with newuidmap, from outside
        if control.recv(1) != b"m":
            os._exit(0)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID, "make mount and process namespaces")
    # Mounts of the host still arrive, ours never leave.
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE, "", "make mounts private")
    return _fork_inner()


def _fork_inner() -> int:
    # A collection in a child would write to, and so copy, every page of the heap.
    gc.disable()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        if chroot.active():
            chroot.adopt()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
        os.setsid()
        os.umask(0o022)  # what is made for a run, here and in it, is not the caller's affair
        # Python's own handler would turn an interrupt that comes before execve into an exception; a client
        # that is gone must not kill the holder (SIGPIPE).
        syscalls.default_signals()
        syscalls.ignore_signal(13)
    return pid


class Holder:
    """The serving loop: new jobs, ended children, clients that hung up."""

    def __init__(self, control: _socket.socket, single: singleid.Single | None = None) -> None:
        self._control = control
        self._poll = select.poll()
        self._by_process: dict[int, Child] = {}
        self._by_socket: dict[int, Child] = {}
        self._by_line: dict[int, Child] = {}
        self._idle: dict[bytes, list[Child]] = {protocol.RUN: [], protocol.TASK: []}
        self._workers = 0
        self._has_run = False
        self._forks_ahead = True
        self._queue: list[tuple[int, list[int]]] = []  # tasks that wait for a worker
        self._unsent: dict[int, bytes] = {}
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._oom_kills = signals.oom_kills()
        self._host = process.Host(
            unified_cgroup=os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
            last_capability=capabilities.last_capability(),
            capabilities=capabilities.effective(),
            seccomp_address=0 if single or chroot.active() else seccomp.build(),
            single=single,
        )

    def serve(self) -> None:
        """Until the client hangs up."""
        self._poll.register(self._control.fileno(), select.POLLIN)
        self._control.send(b"R")
        while True:
            missing, after_ms = self._missing()
            ready = self._poll.poll(after_ms)
            if not ready and missing:
                self._fork_ahead(missing)
            for fd, events in ready:
                if fd == self._control.fileno():
                    kind, number, signal, fds = protocol.receive_job(self._control)
                    if not kind:
                        self._reap_all()
                        return
                    if kind == protocol.SIGNAL:
                        self._signal(number, signal)
                    else:
                        self._start(kind, number, fds)
                elif fd in self._by_process:
                    self._finish(self._by_process[fd])
                elif fd in self._by_line:
                    self._done(self._by_line[fd])
                elif fd in self._unsent:
                    self._send_rest(fd)
                elif fd in self._by_socket and events & _GONE:
                    self._poll.unregister(fd)
                    self._by_socket[fd].killed = True
                    os.kill(self._by_socket[fd].pid, 9)
            while self._queue and self._has_worker():
                self._start(protocol.TASK, *self._queue.pop(0))

    def _reap_all(self) -> None:
        """End the children; waited for, they count in the processor time of the build (getrusage(2))."""
        if chroot.active():
            return  # one that a process of a run traces would keep us waiting; the outer process sees to all
        for child in self._by_process.values():
            os.kill(child.pid, 9)
        for child in self._by_process.values():
            os.waitpid(child.pid, 0)

    def _signal(self, number: int, signal: int) -> None:
        """Pass a signal on to a job's process.

        The kernel drops what the first process of a namespace does not catch (pid_namespaces(7)); such
        a signal has the effect here that it would have on any other process.
        """
        for child in self._by_socket.values():
            if child.number == number:
                if signal in signals.DEADLY and signals.takes_default(child.process_fd, signal):
                    child.ended_by = signal
                    signal = 9
                os.kill(child.pid, signal)

    def _missing(self) -> tuple[bytes, int | None]:
        """The kind of child to fork ahead, and once nothing has happened for how many milliseconds.

        A run begins with one of its own, and what runs have changed is for workers.
        """
        if self._forks_ahead:
            if not self._workers:
                return protocol.TASK, 0
            if self._has_run and not self._idle[protocol.RUN]:
                return protocol.RUN, 0
            runs = len(self._by_process) - self._workers - len(self._idle[protocol.RUN])
            if self._workers < min(runs, _WORKERS):
                return protocol.TASK, _QUIET_MS  # it takes a processor for as long as ten runs begin
        return b"", None

    def _fork_ahead(self, kind: bytes) -> None:
        try:
            self._idle[kind].append(self._new_child(kind))
        except OSError:
            self._forks_ahead = False  # until the next run, which tells if it cannot be forked either

    def _start(self, kind: bytes, number: int, fds: list[int]) -> None:
        """Give a job to a child that waits for one, or to a new one; a run gets processes of its own."""
        if kind == protocol.TASK and not self._has_worker():
            self._queue.append((number, fds))
            return
        try:
            child = self._hand_over(kind, number, fds)
        except OSError as error:
            protocol.send_frame(fds[0], (protocol.ERROR, "SandboxError", error.strerror or str(error), ""))
            for fd in fds:
                os.close(fd)
            return
        for fd in fds[1:]:
            os.close(fd)
        child.number, child.socket_fd = number, fds[0]
        self._by_socket[child.socket_fd] = child
        self._poll.register(child.socket_fd, select.POLLRDHUP)

    def _has_worker(self) -> bool:
        """Whether a task may begin."""
        return bool(self._idle[protocol.TASK]) or self._workers < _WORKERS

    def _hand_over(self, kind: bytes, number: int, fds: list[int]) -> Child:
        while True:
            waiting = bool(self._idle[kind])
            child = self._idle[kind].pop() if waiting else self._new_child(kind)
            try:
                if child.line is not None:
                    protocol.send_job(child.line, kind, number, tuple(fds))
                    if kind == protocol.RUN:
                        self._has_run = self._forks_ahead = True
                        self._drop_line(child)
                    return child
            except OSError:
                if not waiting:
                    raise
                # it was killed, of which we are about to hear

    def _new_child(self, kind: bytes) -> Child:
        """Fork a child that waits for a job."""
        notes_fd = os.memfd_create("notes") if kind == protocol.RUN else -1
        line, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            pid = self._fork(own_processes=kind == protocol.RUN and not chroot.active())
        except OSError:
            if notes_fd >= 0:
                os.close(notes_fd)
            raise
        if pid == 0:
            line.close()
            for other in self._by_line:  # the end of a line is seen only where no one else holds it
                os.close(other)
            begin(kind, theirs, notes_fd, self._host)
        theirs.close()
        child = Child(kind, pid, notes_fd, line)
        self._workers += kind == protocol.TASK
        self._by_process[child.process_fd] = child
        self._poll.register(child.process_fd, select.POLLIN)
        self._by_line[line.fileno()] = child
        self._poll.register(line.fileno(), select.POLLIN)
        return child

    def _fork(self, *, own_processes: bool) -> int:
        """fork(2); `own_processes` makes the child process 1 of a process namespace of its own."""
        if not own_processes:
            return os.fork()
        syscalls.unshare(syscalls.CLONE_NEWPID, "make a process namespace")
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                syscalls.setns(self._pid_namespace, syscalls.CLONE_NEWPID, "return to the process namespace")
        return pid

    def _done(self, child: Child) -> None:
        """A worker has done its job, or a child is no more, which its process descriptor tells too."""
        assert child.line is not None
        try:
            done = child.line.recv(1)
        except ConnectionResetError:  # it was killed before it had taken its job
            done = b""
        if not done or child.killed:
            self._drop_line(child)
            return
        self._tell(child, 0, out_of_memory=False, failure="")
        self._idle[child.kind].append(child)

    def _drop_line(self, child: Child) -> None:
        """Give a child no more jobs; a worker then ends."""
        if child.line is not None:
            self._poll.unregister(child.line.fileno())
            del self._by_line[child.line.fileno()]
            child.line.close()
            child.line = None

    def _finish(self, child: Child) -> None:
        """Reap a child whose whole process namespace has ended and tell the client how."""
        self._poll.unregister(child.process_fd)
        os.close(child.process_fd)
        del self._by_process[child.process_fd]
        self._drop_line(child)
        if child in self._idle[child.kind]:
            self._idle[child.kind].remove(child)
            self._forks_ahead = False  # what ended it would end the next: none before a run wants it
        self._workers -= child.kind == protocol.TASK
        _pid, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        out_of_memory = False
        if code in (-9, 137):
            before, self._oom_kills = self._oom_kills, signals.oom_kills()
            out_of_memory = self._oom_kills > before
        failure = ""
        if child.notes_fd >= 0:
            if chroot.active():
                chroot.kill_children({other.pid for other in self._by_process.values()})
            failure = _take_back(child.notes_fd)
        if code == -9 and child.ended_by:
            code = -child.ended_by
        if child.socket_fd >= 0:
            self._tell(child, code if code >= 0 else 128 - code, out_of_memory=out_of_memory, failure=failure)

    def _tell(self, child: Child, code: int, *, out_of_memory: bool, failure: str) -> None:
        """Tell the client how the child's job ended."""
        fd, child.socket_fd = child.socket_fd, -1
        del self._by_socket[fd]
        self._unsent[fd] = protocol.pack((protocol.EXIT, code, out_of_memory, failure))
        os.set_blocking(fd, False)
        self._send_rest(fd)

    def _send_rest(self, fd: int) -> None:
        """Send what a client that is slow to read has not taken yet; never wait for it."""
        data = self._unsent[fd]
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            pass
        except OSError:
            data = b""  # nobody is there to be told
        if data:
            self._unsent[fd] = data
            self._poll.register(fd, select.POLLOUT)
            return
        del self._unsent[fd]
        try:  # noqa: SIM105  # contextlib would be one more module to load
            self._poll.unregister(fd)
        except KeyError:
            pass
        os.close(fd)


def _take_back(notes_fd: int) -> str:
    """Remove the mount points a run had to make; "" or what went wrong."""
    try:
        size = os.fstat(notes_fd).st_size
        if not size:
            return ""
        place, made = marshal.loads(os.pread(notes_fd, size, 0))
        if chroot.active():
            placing.bring_home(place, made)
        else:
            paths.remove_stubs(place, made)
    except OSError as error:
        if error.errno != errno.ENOENT:
            return f"remove mount points: {error.strerror}"
    finally:
        os.close(notes_fd)
    return ""
