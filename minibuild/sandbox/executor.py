"""What runs the processes of RUN. Others can add theirs by entry points: ``minibuild.executors``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from minibuild.errors import UsageError
from minibuild.sandbox.spec import ISOLATIONS, ExitStatus, ProcessSpec, Rootfs

if TYPE_CHECKING:
    import threading
    from pathlib import Path
    from queue import SimpleQueue

    from minibuild.sandbox.client import Sandbox


class Executor(Protocol):
    """Runs processes on root filesystems; called from several threads.

    Unpacking layers and reading off what a process changed stays with minibuild's own sandbox.
    """

    def describe(self) -> str:
        """One line for people: what keeps processes apart."""

    def run(
        self,
        rootfs: Rootfs,
        spec: ProcessSpec,
        *,
        output: Callable[[int, bytes], None] | None = None,
        stdio: tuple[int, int, int] | None = None,
        cancel: threading.Event | None = None,
        signals: SimpleQueue[int] | None = None,
        scratch: Path | None = None,
    ) -> ExitStatus:
        """Run `spec` in `rootfs`; returns when it and all its descendants are gone.

        Changes go to ``rootfs.upper``, as overlayfs has them, and nowhere else. `output` gets (1 or 2, bytes)
        as they come; with `stdio` the process has those three descriptors instead. Numbers put into
        `signals` are passed on to it. `scratch` is an empty folder for what writable snapshot mounts take
        and lose again. A program that cannot be executed says so on its standard error and gives 127 or 126.
        Raises `SandboxError`; `UsageError` where there is no such user; `Cancelled` soon after `cancel` is
        set.
        """

    def close(self) -> None:
        """End what still runs; may be called twice."""


Factory = Callable[["Sandbox"], Executor]
"""Makes an executor. It is given the sandbox that does the work on files, and may run processes there too."""


def own_isolation(isolation: str) -> str:
    """What of `isolation` is said to minibuild's own sandbox: all but the name of somebody's executor."""
    return isolation if isolation in ISOLATIONS else "auto"


def executor_for(isolation: str, sandbox: Sandbox) -> Executor:
    """`sandbox` itself, or the executor that another package brings under the name `isolation`.

    Raises `UsageError` where nobody does.
    """
    if isolation in ISOLATIONS:
        return sandbox
    from minibuild.entrypoints import EXECUTORS, load

    factory: Factory | None = load(EXECUTORS, isolation)
    if factory is None:
        raise UsageError(
            f"there is no isolation {isolation!r}",
            cure=f"Built in are {', '.join(ISOLATIONS)}; other packages may bring more.",
        )
    return factory(sandbox)
