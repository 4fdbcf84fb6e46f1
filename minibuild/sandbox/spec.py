"""What a sandboxed process is: plain values, no behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from minibuild.sandbox.limits import Dns, Limits
from minibuild.values import dataclass, field

ISOLATIONS = ("auto", "namespace", "single-id", "chroot", "none", "root", "userns", "oci")
"""What can be asked for: a rung, a group of them, or the best that works."""


@dataclass(frozen=True, slots=True)
class Rootfs:
    """An overlay: `lowers` are unpacked layers, lowest first; `upper` takes the changes.

    `upper` and `work` are existing empty (or to be continued) folders on one filesystem.
    """

    lowers: tuple[Path, ...]
    upper: Path
    work: Path


@dataclass(frozen=True, slots=True)
class SnapshotMount:
    """Unpacked layers (lowest first) seen at `target`, from `subpath` inside them.

    With `readonly` false writes are allowed and thrown away with the step.
    """

    target: str
    lowers: tuple[Path, ...]
    subpath: str = ""
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class FolderMount:
    """A folder of the host's store, kept between steps (a cache mount), bound at `target`.

    The folder is made by the sandbox with `mode`, `uid`, `gid` where it is missing. `subpath` is a name in it
    to bind instead; images have a say in what is there, so a link must not lead out of `source`.
    """

    target: str
    source: Path
    readonly: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """A tmpfs at `target`; `size` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretFile:
    """`content` at `target`, held in memory only and gone with the step. Never shown by repr."""

    target: str
    content: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SocketMount:
    """The Unix socket `source`, made for this process alone, at `target`; it gets the owner and mode."""

    target: str
    source: Path
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class DeviceMount:
    """A device node at `target`: a new one of type and permissions `mode`, and of `major` and `minor`.

    It belongs to the process's user where `uid` or `gid` is None. Where none can be made, the host's node
    `source` is shown as it is.
    """

    target: str
    source: Path
    mode: int
    major: int
    minor: int
    uid: int | None = None
    gid: int | None = None


Mount = SnapshotMount | FolderMount | TmpfsMount | SecretFile | SocketMount | DeviceMount


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A process to run in a root filesystem.

    `user` is ``name|uid[:group|gid]`` resolved in the image's own passwd and group files ("" is root).
    `env` is in order; HOME is added from passwd where it is missing. `hosts` are extra lines
    (address, name) for /etc/hosts. `timeout` is in seconds. `insecure` lifts capabilities and seccomp.
    `cgroups` are control groups that it joins; `limits` says what they hold it to, and more. `groups` are
    ids of groups that the process is in besides its user's own.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cwd: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: Literal["host", "none"] = "host"
    mounts: tuple[Mount, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns: Dns = Dns()
    limits: Limits = Limits()
    cgroups: tuple[Path, ...] = ()
    groups: tuple[int, ...] = ()
    insecure: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the process ended: `code` as a shell reports it (128 + signal number for a signal)."""

    code: int
    oom_killed: bool = False
    timed_out: bool = False
