"""The side of the sandbox that the engine sees.

Thread-safe: every call has a socket and pipes of its own and reads them in the caller's thread; only
handing a job over is serialised.
"""

from __future__ import annotations

import _socket
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from minibuild_store.digest import Digest

from minibuild.errors import SandboxError, UsageError
from minibuild.layers.compress import Compression
from minibuild.layers.form import EXACT, RECORDED, Form
from minibuild.layers.writer import LayerResult
from minibuild.sandbox import probe, protocol, spawn
from minibuild.sandbox.job import Job, Output, Pipes
from minibuild.sandbox.requests import run_request, texts
from minibuild.sandbox.spec import ExitStatus, ProcessSpec, Rootfs
from minibuild.sandbox.trees import Trees

if TYPE_CHECKING:
    from minibuild.layers.dedup import Dedup
    from minibuild.sandbox.runtime import Runtime


class Sandbox:
    """Runs processes, unpacks and diffs layers with the rights over ids that a build needs.

    One helper process serves all calls and ends with this object, or with the process that made it.
    """

    def __init__(
        self,
        mode: probe.Mode,
        process: spawn.Process,
        control: _socket.socket,
        *,
        devices: bool,
        runtime: Runtime | None = None,
    ) -> None:
        """Use `start`."""
        self._mode = mode
        self._runtime = runtime
        self._process = process
        self._control = control
        self._devices = devices
        self._lock = threading.Lock()
        self._closed = False
        self._numbers = itertools.count(1)
        self._trees = Trees(self.remove) if mode is probe.Mode.CHROOT else None
        self.refused: dict[probe.Mode, SandboxError] = {}  # better modes, and why not

    @classmethod
    def start(
        cls,
        isolation: str = "auto",
        *,
        runtime: str = "",
        trial: Callable[[Sandbox], None] | None = None,
        launched: spawn.Launched | None = None,
    ) -> Sandbox:
        """Start the helper process, in 20 to 30 ms, in the best mode that works.

        `isolation` is a name of `probe.ISOLATIONS`; for "oci" `runtime` names the program that processes
        are handed to, "" for crun or runc, whichever works. `trial` raises `SandboxError` for a sandbox
        that is of no use after all. `launched`, by `spawn.launch` for this isolation, is taken for the first.
        Raises `SandboxError` with what is missing and the cure.
        """
        machine = probe.look() if launched is None else launched.machine
        try:
            modes, refused = probe.ladder(machine, isolation)
            tries = itertools.product(modes, _runtimes(isolation, runtime))
        except BaseException:
            if launched is not None:
                launched.abandon()
            raise
        for mode, found in tries:
            try:
                begun, launched = launched, None
                sandbox = cls._served(begun or spawn.Launched(mode, machine), found)
            except SandboxError as error:
                refused[mode] = _joined(refused.get(mode), error)
                continue
            try:
                if trial is not None:
                    trial(sandbox)
            except SandboxError as error:
                refused[mode] = _joined(refused.get(mode), error)
                sandbox.close()
                continue
            except BaseException:
                sandbox.close()
                raise
            sandbox.refused = refused
            return sandbox
        raise probe.nothing_works(refused, isolation)

    @classmethod
    def start_in(cls, mode: probe.Mode) -> Sandbox:
        """Start in this very mode; raises `SandboxError`."""
        return cls._served(spawn.Launched(mode, probe.look()))

    @classmethod
    def _served(cls, launched: spawn.Launched, runtime: Runtime | None = None) -> Sandbox:
        launched.ready()
        mode = launched.mode
        exact = mode in (probe.Mode.ROOT, probe.Mode.CHROOT)
        devices = exact and probe.owns_all_ids()
        return cls(mode, launched.process, launched.control, devices=devices, runtime=runtime)

    @property
    def mode(self) -> str:
        """How processes are kept apart, in words for people."""
        return f"{self._mode.value}, by {self._runtime.name}" if self._runtime else self._mode.value

    def describe(self) -> str:
        """One line for people: the mode, what is not real in it, and why there is no better one."""
        text = f"isolation: {self.mode}"
        if self._mode is probe.Mode.SINGLE:
            text += "; in RUN every file seems to be the user's own, and changing the user has no effect"
        elif self._mode is probe.Mode.CHROOT:
            text += "; RUN is not contained, has no /proc, and has its secrets on the disk while it runs"
        for mode, error in self.refused.items():
            if not probe.hopeless(mode):
                return f"{text} ({error.message})"
        return text

    @property
    def lends_folders(self) -> bool:
        """Whether the folder of a `FolderMount` is away while a process uses it, so that one must wait."""
        return self._mode is probe.Mode.CHROOT

    @property
    def makes_devices(self) -> bool:
        """Whether device nodes can be made; elsewhere a process gets the host's own, as they are."""
        return self._devices

    def keep_trees(self, folder: Path) -> None:
        """Hand the root folder of a run on to the next where nothing is mounted; `folder` is to hold them."""
        if self._trees is not None:
            self._trees.folder = folder

    def stands_for(self, upper: Path, layer: Path) -> None:
        """Tell that the folder `layer` is what `upper` was, or the same from an earlier run."""
        if self._trees is not None:
            self._trees.stands_for(upper, layer)

    @property
    def form(self) -> Form:
        """How unpacked layers lie on disk in this mode."""
        return RECORDED if self._mode is probe.Mode.SINGLE else EXACT

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def hang_up(self) -> None:
        """Have the helper process end, and every job it runs; `close` waits until it has."""
        with self._lock:
            if not self._closed:
                self._closed = True
                with contextlib.suppress(OSError):
                    # Reaches the helper even where a forked copy of this process holds the socket too.
                    self._control.shutdown(_socket.SHUT_RDWR)
                self._control.close()

    def close(self) -> None:
        """End the helper process and every job it runs; may be called twice."""
        self.hang_up()
        if not self._process.reaped and not spawn.ends(self._process, 10):
            self._process.kill()
        self._process.wait()

    def run(
        self,
        rootfs: Rootfs,
        spec: ProcessSpec,
        *,
        output: Output | None = None,
        stdio: tuple[int, int, int] | None = None,
        cancel: threading.Event | None = None,
        signals: SimpleQueue[int] | None = None,
        scratch: Path | None = None,
    ) -> ExitStatus:
        """Run `spec` in `rootfs`; returns when it and all its descendants are gone.

        `output` gets (1 or 2, bytes) as they come, in this thread; with `stdio` the process has those
        three descriptors instead. The numbers put into `signals` are passed on to the process as signals,
        which take effect even where it does not catch them. What writable snapshot mounts take, and lose
        again, is held in memory, or in `scratch`, an empty folder. A program that cannot be executed
        says so on its standard error and gives 127 or 126. Raises `SandboxError`, `UsageError` (no such
        user), `Cancelled`.
        """
        if not spec.argv:
            raise UsageError("a process needs a program to run", cure="Give at least one argument.")
        request = run_request(rootfs, spec, scratch)
        if self._runtime is not None:
            request["runtime"] = self._runtime.command
        with self._trees.used(request) if self._trees else contextlib.nullcontext():
            if stdio is not None:
                with self._job(protocol.RUN, stdio) as job:
                    job.request(request)
                    return job.wait(None, cancel, spec.timeout, signals)
            pipes = Pipes(output)
            try:
                with self._job(protocol.RUN, pipes.theirs) as job:
                    pipes.close_theirs()
                    job.request(request)
                    return job.wait(pipes, cancel, spec.timeout, signals)
            finally:
                pipes.close()

    def unpack(self, blob: Path, media_type: str, dest: Path, diff_id: Digest) -> bytearray:
        """Unpack a layer blob into the empty folder `dest`; its packed `LayerIndex`.

        Raises `LayerError` for a malformed or hostile blob, `SandboxError`.
        """
        arguments = {
            "media_type": media_type,
            "dest": os.path.abspath(dest),
            "diff_id": str(diff_id),
            "skip_devices": not self._devices,
        }
        fd = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._large_task("unpack", arguments, (fd,), stops=True)[1]
        finally:
            os.close(fd)

    def diff(
        self, rootfs: Rootfs, out_fd: int, compression: Compression, clamp_mtime_ns: int | None = None
    ) -> LayerResult:
        """Write what the upper folder of `rootfs` changes as a layer blob to `out_fd`."""
        arguments = {
            "lowers": texts(rootfs.lowers),
            "upper": os.path.abspath(rootfs.upper),
            "work": os.path.abspath(rootfs.work),
            "compression": tuple(compression),
            "clamp_mtime_ns": clamp_mtime_ns,
        }
        answer, index = self._large_task("diff", arguments, (out_fd,), stops=True)
        parts: list[Any] = [*answer, index]
        diff_id, digest, *rest = parts
        return LayerResult(Digest(diff_id), Digest(digest), *rest)

    def trust(
        self, lowers: Sequence[Path], folder: Path, place: Path, pem: bytes, java_home: str
    ) -> tuple[bytes, bool]:
        """Fill the empty `folder` with a layer that has `lowers` trust the authorities of `pem` too.

        Returns a bundle for programs that have none of their own: the image's, or b"" where it has none,
        with `pem`; and whether there is anything in the layer. `place` is an empty folder. What a step
        does to the files is undone by `scrub`.
        """
        arguments = {
            "lowers": texts(lowers),
            "folder": os.path.abspath(folder),
            "place": os.path.abspath(place),
            "pem": pem,
            "java_home": java_home,
        }
        bundle, anything = self._task("trust", arguments, ())
        return bundle, anything

    def scrub(self, upper: Path) -> tuple[str, ...]:
        """Take what `trust` had added out of the files in `upper`; the paths of those that held it."""
        return tuple(self._task("scrub", {"upper": os.path.abspath(upper)}, ()))

    def makedirs(self, path: Path, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a folder that belongs to `uid` and `gid` of the image, unless it is there."""
        arguments = {"path": os.path.abspath(path), "mode": mode, "uid": uid, "gid": gid}
        self._task("makedirs", arguments, ())

    def place(self, source: Path, target: Path, *, mode: int, uid: int, gid: int) -> None:
        """Move the folder `source` to `target`, which is missing or empty, with this owner and mode."""
        arguments = {"source": os.path.abspath(source), "target": os.path.abspath(target)}
        self._task("place", {**arguments, "mode": mode, "uid": uid, "gid": gid}, ())

    def remove(self, path: Path) -> None:
        """Remove a file or a folder with all in it, whoever it belongs to; a missing one is fine."""
        self._task("remove", {"path": os.path.abspath(path)}, ())

    def dedup(self, folders: Sequence[Path], *, dry_run: bool) -> Dedup:
        """Have equal files in `folders`, whoever they belong to, share their blocks; see `layers.dedup`."""
        from minibuild.layers.dedup import Dedup

        return Dedup(*self._task("dedup", {"folders": texts(folders), "dry_run": dry_run}, ()))

    def _task(self, name: str, arguments: dict[str, Any], fds: tuple[int, ...]) -> Any:
        return self._large_task(name, arguments, fds)[0]

    def _large_task(
        self, name: str, arguments: dict[str, Any], fds: tuple[int, ...], *, stops: bool = False
    ) -> tuple[Any, bytearray]:
        """The answer, and the large bytes of it; one that `stops` is killed once `stopping.check` raises."""
        with self._job(protocol.TASK, fds) as job:
            job.request((name, arguments))
            return job.answer(stops=stops)

    def _job(self, kind: bytes, fds: tuple[int, ...]) -> Job:
        ours, theirs = _socket.socketpair()
        with contextlib.closing(theirs):
            try:
                with self._lock:
                    number = next(self._numbers)
                    protocol.send_job(self._control, kind, number, (theirs.fileno(), *fds))
            except OSError:
                ours.close()
                reason = "is closed" if self._closed else "has ended unexpectedly"
                raise SandboxError(f"the sandbox {reason}") from None
        return Job(ours, lambda signal: self._signal(number, signal))

    def _signal(self, number: int, signal: int) -> None:
        with self._lock, contextlib.suppress(OSError):  # how it ended comes as a frame
            protocol.send_signal(self._control, number, signal)


def _runtimes(isolation: str, wanted: str) -> Sequence[Runtime | None]:
    """What is to be tried to run processes with; None is we ourselves."""
    if isolation != "oci":
        return (None,)
    from minibuild.sandbox.runtime import runtimes

    return runtimes(wanted)


def _joined(first: SandboxError | None, second: SandboxError) -> SandboxError:
    """Both errors in one, where a mode was tried in two ways."""
    if first is None or first.message == second.message:
        return second
    return SandboxError(f"{first.message}; {second.message}", cure=second.cure)
