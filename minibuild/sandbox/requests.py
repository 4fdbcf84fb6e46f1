"""What the engine says of a run, put into the messages that the holder reads: values that marshal knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild.sandbox.limits import ULIMITS, Dns
from minibuild.sandbox.spec import (
    DeviceMount,
    FolderMount,
    Mount,
    ProcessSpec,
    Rootfs,
    SnapshotMount,
    SocketMount,
    TmpfsMount,
)

if TYPE_CHECKING:
    from minibuild.sandbox.protocol import MountRequest, RunRequest


def texts(paths: Sequence[Path]) -> tuple[str, ...]:
    """Paths as the holder, which is in another folder, finds them."""
    return tuple(os.path.abspath(path) for path in paths)


def _resolv_conf(dns: Dns) -> bytes | None:
    """The process's /etc/resolv.conf, None for the host's."""
    if dns == Dns():
        return None
    try:
        host = Path("/etc/resolv.conf").read_text("utf-8", "replace")
    except OSError:
        host = ""
    return dns.resolv_conf(host).encode()


def run_request(rootfs: Rootfs, spec: ProcessSpec, scratch: Path | None) -> RunRequest:
    """The message that has `spec` run in `rootfs`, without what the client decides: tree and runtime."""
    return {
        "lowers": texts(rootfs.lowers),
        "upper": os.path.abspath(rootfs.upper),
        "work": os.path.abspath(rootfs.work),
        "scratch": "" if scratch is None else os.path.abspath(scratch),
        "argv": tuple(spec.argv),
        "env": tuple(spec.env),
        "cwd": spec.cwd,
        "user": spec.user,
        "hostname": spec.hostname,
        "network": spec.network,
        "mounts": tuple(_mount_request(mount) for mount in spec.mounts),
        "hosts": tuple(spec.hosts),
        "resolv_conf": _resolv_conf(spec.dns),
        "shm_size": spec.limits.shm_size,
        "ulimits": tuple((ULIMITS[name], soft, hard) for name, soft, hard in spec.limits.ulimits),
        "cgroups": texts(spec.cgroups),
        "groups": tuple(spec.groups),
        "insecure": spec.insecure,
        "tree": "",
        "applied": 0,
        "runtime": (),
    }


def _mount_request(mount: Mount) -> MountRequest:
    if isinstance(mount, SnapshotMount):
        return {
            "kind": "snapshot",
            "target": mount.target,
            "lowers": texts(mount.lowers),
            "subpath": mount.subpath,
            "readonly": mount.readonly,
        }
    if isinstance(mount, FolderMount):
        return {
            "kind": "folder",
            "target": mount.target,
            "source": os.path.abspath(mount.source),
            "subpath": mount.subpath,
            "readonly": mount.readonly,
            "mode": mount.mode,
            "uid": mount.uid,
            "gid": mount.gid,
        }
    if isinstance(mount, TmpfsMount):
        return {"kind": "tmpfs", "target": mount.target, "size": mount.size}
    if isinstance(mount, SocketMount):
        return {
            "kind": "socket",
            "target": mount.target,
            "source": os.path.abspath(mount.source),
            "mode": mount.mode,
            "uid": mount.uid,
            "gid": mount.gid,
        }
    if isinstance(mount, DeviceMount):
        return {
            "kind": "device",
            "target": mount.target,
            "source": os.path.abspath(mount.source),
            "mode": mount.mode,
            "device": os.makedev(mount.major, mount.minor),
            "uid": mount.uid,
            "gid": mount.gid,
        }
    return {
        "kind": "secret",
        "target": mount.target,
        "content": mount.content,
        "mode": mount.mode,
        "uid": mount.uid,
        "gid": mount.gid,
    }
