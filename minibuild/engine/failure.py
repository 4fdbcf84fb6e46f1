"""A RUN that failed, while everything is still as it left it: to be looked at, or taken along."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.errors import RunFailed
from minibuild.exporters.image import Image, ImageLayer
from minibuild.exporters.rootfs import write_tar
from minibuild.oci.config import ImageConfig
from minibuild.oci.platform import Platform
from minibuild.sandbox.spec import ExitStatus, ProcessSpec, Rootfs
from minibuild.values import replace

if TYPE_CHECKING:
    from minibuild_store.store import Store

    from minibuild.engine.layerforms import Layers
    from minibuild.sandbox.executor import Executor

_SHELL = "/bin/sh"


class Tools(Protocol):
    """What is needed of the build that the step belongs to."""

    @property
    def store(self) -> Store: ...

    @property
    def layers(self) -> Layers: ...

    @property
    def cancel(self) -> threading.Event | None: ...

    def executor(self) -> Executor: ...


class FailedStep:
    """What a caller of `build` may do with the step that ended the build, in `on_failure` only."""

    def __init__(
        self,
        tools: Tools,
        name: str,
        error: RunFailed,
        spec: ProcessSpec,
        rootfs: Rootfs,
        parent: Filesystem,
        keep: Callable[[], Layer],
    ) -> None:
        self.name = name
        self.error = error
        self._tools = tools
        self._spec = spec
        self._rootfs = rootfs
        self._parent = parent
        self._keep = keep

    @property
    def user(self) -> str:
        return self._spec.user or "root"

    @property
    def folder(self) -> str:
        return self._spec.cwd

    def shell(
        self,
        stdio: tuple[int, int, int],
        *,
        argv: tuple[str, ...] = (),
        env: tuple[tuple[str, str], ...] = (),
    ) -> ExitStatus:
        """Run a shell (or `argv`) where the command ran, with its mounts, variables, user and folder.

        `env` is added where the step has no such variable. What it writes is seen by the next call.
        """
        known = dict(self._spec.env)
        more = tuple(pair for pair in env if pair[0] not in known)
        spec = replace(self._spec, argv=argv or self._shell(), env=(*self._spec.env, *more), timeout=None)
        return self._tools.executor().run(self._rootfs, spec, stdio=stdio, cancel=self._tools.cancel)

    def _shell(self) -> tuple[str, ...]:
        """The shell of a shell-form command, else /bin/sh."""
        argv = self._spec.argv
        return (argv[0],) if "-c" in argv[1:] and argv[0].endswith("sh") else (_SHELL,)

    def export(self, dest: Path) -> None:
        """Write the root filesystem as the command left it to the tar file `dest`; the last thing to do."""
        layers = (*self._parent.layers, self._keep())
        image = Image(
            ImageConfig(Platform.of_host()),
            tuple(ImageLayer(layer.diff_id, layer.descriptor) for layer in layers),
        )
        write_tar([image], dest, blobs=self._tools.layers, store=self._tools.store)


OnFailure = Callable[[FailedStep], None]
"""Called once, with the first step whose command fails, before the build ends with its error."""
