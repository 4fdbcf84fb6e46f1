"""`run`: an image's command in the sandbox, on a throw-away copy of its filesystem."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from minibuild_store.store import Store

from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import image_filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.errors import UsageError
from minibuild.events import EventSink, silent
from minibuild.oci.config import ImageConfig
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.plan.scope import DEFAULT_PATH
from minibuild.registry.options import RegistryOptions
from minibuild.sandbox.spec import ExitStatus, ProcessSpec, Rootfs
from minibuild.values import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run. `args` replace CMD, `entrypoint` replaces ENTRYPOINT (and drops CMD)."""

    image: Reference
    args: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    workdir: str | None = None
    hostname: str = "minibuild"
    network: str = "host"
    registry: RegistryOptions = field(default_factory=RegistryOptions)
    isolation: str = "auto"
    oci_runtime: str = ""
    insecure: bool = False


class Signals:
    """Signals for what `run_image` runs. Before the process is there, any of them stops the whole."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[int] = SimpleQueue()
        self.stop = threading.Event()
        self.running = False

    def send(self, number: int) -> None:
        """Pass a signal on; may be called from a signal handler."""
        if self.running:
            self.queue.put(number)
        else:
            self.stop.set()


def run_image(
    request: RunRequest,
    *,
    store: Store,
    stdio: tuple[int, int, int],
    sink: EventSink = silent,
    signals: Signals | None = None,
) -> ExitStatus:
    """Run what `request` asks for, with the given descriptors, and wait; pulls an image that is not here.

    Raises `Cancelled` where `signals.stop` is set, and kills the process if it runs by then.
    """
    signals = signals or Signals()
    build = BuildRequest(
        context=None, registry=request.registry, isolation=request.isolation, oci_runtime=request.oci_runtime
    )
    with Session(store, build, sink, signals.stop) as session:
        image = LocalImages(store).find(request.image)
        if image is None:
            image = ImageBases(session).image(str(request.image), Platform.of_host())
        session.layers.know(image)
        sandbox = session.sandbox()
        lowers = session.layers.snapshots(image_filesystem(image))
        with store.snapshots.workspace(remove=sandbox.remove) as work:
            rootfs = Rootfs(lowers, sandbox.form.make(work / "upper"), work / "work")
            rootfs.work.mkdir(mode=0o700)
            session.check()
            signals.running = True
            return session.executor().run(
                rootfs,
                process(request, image.config),
                stdio=stdio,
                cancel=session.stop,
                signals=signals.queue,
            )


def process(request: RunRequest, config: ImageConfig) -> ProcessSpec:
    """The process that `request` asks for on an image of `config`; `UsageError` where there is none."""
    entrypoint, cmd = config.entrypoint or (), config.cmd or ()
    if request.entrypoint is not None:
        entrypoint, cmd = ((request.entrypoint,) if request.entrypoint else ()), ()
    argv = (*entrypoint, *(request.args or cmd))
    if not argv:
        raise UsageError(
            f"{request.image.familiar} has neither ENTRYPOINT nor CMD",
            cure="Say what to run behind its name.",
        )
    env = config.environment()
    env.setdefault("PATH", DEFAULT_PATH)
    env.update(request.env)
    return ProcessSpec(
        argv=argv,
        env=tuple(env.items()),
        cwd=request.workdir or config.working_dir or "/",
        user=config.user if request.user is None else request.user,
        hostname=request.hostname,
        network="none" if request.network == "none" else "host",
        insecure=request.insecure,
    )
