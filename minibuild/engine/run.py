"""RUN: a process in the sandbox, on the stage's filesystem; its changes become a layer."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.blobs import BlobInfo

from minibuild.engine import limits
from minibuild.engine.cachemounts import CacheMounts
from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.secrets import secret_value
from minibuild.engine.session import Session
from minibuild.engine.voice import Running
from minibuild.errors import Cancelled, DockerfileError, RunFailed, UsageError
from minibuild.oci.descriptor import Descriptor
from minibuild.plan import steps
from minibuild.sandbox.spec import (
    ExitStatus,
    FolderMount,
    Mount,
    ProcessSpec,
    Rootfs,
    SecretFile,
    SnapshotMount,
    SocketMount,
    TmpfsMount,
)
from minibuild.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from minibuild.engine.devices import Given
    from minibuild.engine.failure import FailedStep
    from minibuild.sandbox.client import Sandbox

_SCRIPT_MODE = 0o755
_HOSTNAME = "buildkitsandbox"  # as BuildKit has it
_USER_CURE = "Make the user or group in an earlier RUN, or give USER numbers."

Mounted = Mapping[int, Filesystem]
"""The filesystems that bind and cache mounts read from, by the mount's position."""


def execute(
    session: Session,
    running: Running,
    step: steps.RunStep,
    parent: Filesystem,
    mounted: Mounted,
    devices: Given | None,
) -> Layer:
    """Run the step's command and return the layer of what it changed; raises `RunFailed`."""
    session.check()
    sandbox = session.sandbox()
    lowers = session.layers.snapshots(parent)
    with ExitStack() as stack:
        work = stack.enter_context(session.sandboxes.rooms().lent())
        rootfs = Rootfs(lowers, sandbox.form.make(work / "upper"), work / "work")
        rootfs.work.mkdir(mode=0o700, exist_ok=True)
        spec = _spec(session, stack, step, mounted)
        if devices is not None:
            spec = _with_devices(spec, devices)
        shown = rootfs
        if session.ca_bundle and lowers:
            shown, spec = _with_trust(session, rootfs, spec, work)
        try:
            status = session.executor().run(
                shown, spec, output=running.output, stdio=None, cancel=session.stop
            )
        except UsageError as error:
            raise DockerfileError(error.message, cure=_USER_CURE) from None
        if session.stop.is_set():
            raise Cancelled

        def keep() -> Layer:
            return _keep_changes(session, sandbox, rootfs, work / "upper")

        if not status.code and not status.timed_out:
            return keep()
        failure = _failure(session, step, status)
        session.failed(lambda: _failed_step(session, step, failure, spec, shown, parent, keep))
        raise failure


def _with_devices(spec: ProcessSpec, devices: Given) -> ProcessSpec:
    env = {**dict(spec.env), **dict(devices.env)}
    mounts = (*devices.mounts, *spec.mounts)
    return replace(spec, env=tuple(env.items()), mounts=mounts, groups=devices.groups)


def _failed_step(
    session: Session,
    step: steps.RunStep,
    error: RunFailed,
    spec: ProcessSpec,
    rootfs: Rootfs,
    parent: Filesystem,
    keep: Callable[[], Layer],
) -> FailedStep:
    from minibuild.engine.failure import FailedStep

    return FailedStep(session, step.name, error, spec, rootfs, parent, keep)


def _with_trust(
    session: Session, rootfs: Rootfs, spec: ProcessSpec, work: Path
) -> tuple[Rootfs, ProcessSpec]:
    """The same with the authorities of --ca-bundle trusted, which only the process gets to see."""
    from minibuild.engine import trust

    env = dict(spec.env)
    lowers, files = trust.prepare(session.sandbox(), rootfs.lowers, work, session.ca_bundle, env)
    mounts = (*files, *spec.mounts)
    return replace(rootfs, lowers=lowers), replace(spec, env=tuple(env.items()), mounts=mounts)


def _failure(session: Session, step: steps.RunStep, status: ExitStatus) -> RunFailed:
    shown = " ".join(step.args)
    code = status.code
    if status.timed_out:
        seconds = session.request.step_timeout
        return RunFailed(
            f'process "{shown}" did not end within {seconds:g} s and was killed',
            exit_code=code,
            cure="Raise --step-timeout, or find out what it waits for.",
        )
    if status.oom_killed:
        more = "raise --memory" if session.request.limits.memory else "free some"
        return RunFailed(
            f'process "{shown}" was killed for want of memory',
            exit_code=code,
            cure=f"Let it use less, or {more}.",
        )
    cure = {
        126: "The file is there but cannot be executed: check its mode and its #! line.",
        127: "The command was not found: install it in an earlier step, or check PATH and spelling.",
        137: "It was killed, often for want of memory.",
    }.get(code, "")
    return RunFailed(
        f'process "{shown}" did not complete successfully: exit code: {code}', exit_code=code, cure=cure
    )


def _keep_changes(session: Session, sandbox: Sandbox, rootfs: Rootfs, folder: Path) -> Layer:
    """Turn the upper folder into a layer blob, and `folder`, which holds it, into that layer's snapshot."""
    from minibuild.layers.compress import DEFAULT

    if session.ca_bundle:
        sandbox.scrub(rootfs.upper)
    clamp = None if session.epoch is None else session.epoch * 1_000_000_000
    with session.working(), session.store.blobs.writer() as blob:
        result = sandbox.diff(rootfs, blob.fd, DEFAULT, clamp)
        blob.commit_hashed(BlobInfo(result.digest, result.size))
    session.layers.keep_index(result.diff_id, result.index)
    name = sandbox.form.name(result.diff_id.hex)
    if not result.entries:  # many steps leave this layer, each its own folders that it only looked into
        folder = folder.with_name("nothing")
        session.lease(name)
        if session.store.snapshots.path(name) is None:
            sandbox.form.make(folder)
    placed = session.store.snapshots.commit(folder, name)
    sandbox.stands_for(rootfs.upper, sandbox.form.root(placed))
    return Layer(result.diff_id, Descriptor(result.media_type, result.digest, result.size))


def _spec(session: Session, stack: ExitStack, step: steps.RunStep, mounted: Mounted) -> ProcessSpec:
    network = step.network or session.request.network or "default"
    if network not in ("default", "host", "none"):
        raise DockerfileError(f"unsupported network mode {network!r}", cure="Use default, host or none.")
    insecure = step.security == "insecure"
    if insecure and not session.request.allow_insecure:
        raise DockerfileError(
            "security.insecure is not allowed", cure="Allow it with --allow security.insecure."
        )
    env = dict(step.env)
    for name, value in step.proxy:
        env.setdefault(name, value)
    mounts: list[Mount] = []
    sockets = itertools.count()
    caches = CacheMounts(session, stack).take(step.mounts, mounted)
    for number, mount in enumerate(step.mounts):
        if isinstance(mount, steps.SshMount):
            usual = f"/run/buildkit/ssh_agent.{next(sockets)}"
            mount = replace(mount, target=mount.target or usual)
        made = _mount(session, stack, mount, mounted.get(number), env, caches.get(number))
        if made is not None:
            mounts.append(made)
    if session.request.volumes and session.sandbox().lends_folders:
        raise UsageError("--volume needs mounts, which isolation chroot does not have", cure="Use COPY.")
    for volume in session.request.volumes:
        mounts.append(FolderMount(volume.target, volume.source, volume.readonly))
    return ProcessSpec(
        argv=step.args,
        env=tuple(env.items()),
        cwd=step.cwd,
        user=step.user,
        network="none" if network == "none" else "host",
        mounts=tuple(mounts),
        hosts=session.request.hosts,
        dns=session.request.dns,
        limits=limits.allowed(session, session.request.limits),
        cgroups=limits.joined(session, stack, session.request.limits),
        timeout=session.request.step_timeout,
        insecure=insecure,
        hostname=step.hostname or _HOSTNAME,
    )


def _mount(
    session: Session,
    stack: ExitStack,
    mount: steps.Mount,
    source: Filesystem | None,
    env: dict[str, str],
    cache: FolderMount | None,
) -> Mount | None:
    match mount:
        case steps.BindMount():
            assert source is not None
            lowers = session.layers.snapshots(source)
            return SnapshotMount(mount.target, lowers, mount.subpath, mount.readonly)
        case steps.CacheMount():
            return cache
        case steps.TmpfsMount():
            return TmpfsMount(mount.target, mount.size)
        case steps.ScriptMount():
            data = mount.content.encode("utf-8", "surrogateescape")
            return SecretFile(mount.target, data, _SCRIPT_MODE)
        case steps.SecretMount():
            return _secret_mount(session, mount, env)
        case steps.SshMount():
            return _ssh_mount(session, stack, mount, env)


def _secret_mount(session: Session, mount: steps.SecretMount, env: dict[str, str]) -> Mount | None:
    value = secret_value(session.request.secrets, mount.id)
    if value is None:
        if mount.required:
            raise DockerfileError(
                f"secret {mount.id}: not found",
                cure=f"Pass it with --secret id={mount.id},src=FILE or ,env=NAME.",
            )
        return None
    session.mask(value)
    if mount.env:
        env[mount.env] = value.decode("utf-8", "surrogateescape")
    if not mount.target:
        return None
    target = posixpath.join("/", mount.target)
    return SecretFile(target, value, mount.mode, mount.uid, mount.gid)


def _ssh_mount(
    session: Session, stack: ExitStack, mount: steps.SshMount, env: dict[str, str]
) -> Mount | None:
    from minibuild.engine import ssh

    env.setdefault("SSH_AUTH_SOCK", mount.target)
    agent = ssh.agent_for(session.request.ssh, mount.id)
    if agent is None:
        if mount.required:
            raise DockerfileError(
                f'no SSH key "{mount.id}" forwarded from the client',
                cure=f"Forward an agent with --ssh {mount.id}, or a key with --ssh {mount.id}=KEYFILE.",
            )
        return None
    folder = stack.enter_context(session.store.workspace())
    source = stack.enter_context(ssh.forwarded(agent, folder))
    return SocketMount(mount.target, source, mount.mode, mount.uid, mount.gid)
