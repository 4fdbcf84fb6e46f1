"""The sandbox of a build and whatever else runs its processes: started when needed, let go after the last."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreError
from minibuild_store.files import remove_tree
from minibuild_store.store import Store

from minibuild.engine.request import BuildRequest
from minibuild.errors import MinibuildError

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild_store.session import Workspace

    from minibuild.engine.workrooms import Workrooms
    from minibuild.sandbox.client import Sandbox
    from minibuild.sandbox.executor import Executor
    from minibuild.sandbox.spawn import Launched


class Sandboxes:
    """What `request` wants its processes run by; says so with `notice`. All threads of a build share it."""

    def __init__(self, store: Store, request: BuildRequest, notice: Callable[[str, str], None]) -> None:
        self._store = store
        self._request = request
        self._notice = notice
        self._mutex = threading.RLock()
        self._starting = threading.RLock()  # held for the time that a sandbox takes to start; before `_mutex`
        self._ahead: threading.Thread | None = None
        self._launched: Launched | None = None
        self._sandbox: Sandbox | None = None
        self._ending: list[Sandbox] = []
        self._executor: Executor | None = None
        self._rooms: Workrooms | None = None
        self._trees: Workspace | None = None

    def rest(self) -> None:
        """Let the sandbox go, without waiting for its end. Who needs one after this gets another."""
        if self._ahead is not None:
            self._ahead.join()
        with self._mutex:
            if self._rooms is not None:
                self._rooms.close()
                self._rooms = None
            if self._trees is not None:
                self._trees.__exit__()
                self._trees = None
            if self._executor is not None and self._executor is not self._sandbox:
                self._executor.close()
            self._executor = None
            if self._sandbox is not None:
                with contextlib.suppress(StoreError):
                    self._store.clean(remove=self._removed)
                self._sandbox.hang_up()
                self._ending.append(self._sandbox)
                self._sandbox = None

    def close(self) -> None:
        """Let it go, and wait for its end."""
        self.rest()
        with self._mutex:
            while self._ending:
                self._ending.pop().close()

    def sandbox(self) -> Sandbox:
        with self._starting:
            sandbox = self._started()
        self._notice("note", sandbox.describe())
        return sandbox

    def start_ahead(self) -> None:
        """Start the sandbox while other things go on. Where it cannot be started, who wants it is told."""

        def start() -> None:
            with self._starting, contextlib.suppress(Exception):
                self._started()

        self._launch()
        thread = threading.Thread(target=start, daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: who wants the sandbox starts it
            thread.start()
            self._ahead = thread

    def _launch(self) -> None:
        """Start the sandbox's process; it takes as long to serve as its client to be loaded here."""
        from minibuild.sandbox import spawn
        from minibuild.sandbox.executor import own_isolation

        self._launched = spawn.launch(own_isolation(self._request.isolation))

    def _started(self) -> Sandbox:
        if self._sandbox is None:
            if self._launched is None:
                self._launch()
            from minibuild.engine.trial import known_to_work
            from minibuild.sandbox.client import Sandbox
            from minibuild.sandbox.executor import own_isolation

            launched, self._launched = self._launched, None
            self._sandbox = Sandbox.start(
                own_isolation(self._request.isolation),
                runtime=self._request.oci_runtime,
                trial=known_to_work(self._store),
                launched=launched,
            )
            if self._sandbox.lends_folders:
                self._trees = self._store.snapshots.workspace(remove=self._sandbox.remove)
                self._sandbox.keep_trees(self._trees.__enter__())
        return self._sandbox

    def executor(self) -> Executor:
        """What runs processes: the sandbox, or what the caller or another package brings."""
        with self._starting:
            if self._executor is None:
                from minibuild.sandbox.executor import executor_for

                sandbox, make = self.sandbox(), self._request.executor
                self._executor = make(sandbox) if make else executor_for(self._request.isolation, sandbox)
                if self._executor is not sandbox:
                    self._notice("note", self._executor.describe())
            return self._executor

    def rooms(self) -> Workrooms:
        """The folders that RUNs work in."""
        with self._starting:
            if self._rooms is None:
                from minibuild.engine.workrooms import Workrooms

                self._rooms = Workrooms(self._store.snapshots, self.remove)
            return self._rooms

    def remove(self, folder: Path) -> None:
        """Delete a folder that may hold files of subordinate users."""
        try:
            remove_tree(folder)  # mostly empty folders of our own: no need of a process for that
        except OSError:
            self.sandbox().remove(folder)

    def _removed(self, folder: Path) -> None:
        """`remove` as the store wants it, for what builds that were killed have left."""
        try:
            self.remove(folder)
        except MinibuildError as error:
            raise OSError(error.message) from error
