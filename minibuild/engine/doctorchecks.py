"""The facts that `doctor` tells beside the modes: kernel, namespaces, cgroups, limits, store."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from minibuild_store.store import Store

from minibuild.errors import SandboxError
from minibuild.sandbox import cgroups, probe, userns
from minibuild.sandbox.limits import Limits

# Name, state, value, cure: the fields of `doctor.Check`.
Found = tuple[str, Literal["ok", "warning", "missing"], str, str]

_LOW_DISK: Final = 5 << 30
_LOW_FILES: Final = 1024
# statfs(2) types by their names in /proc/mounts that overlayfs cannot write to or keeps no attributes on
_POOR_FILE_SYSTEMS: Final = ("nfs", "nfs4", "cifs", "9p", "vfat", "fuse", "fuseblk", "overlay", "ecryptfs")


def machine_checks(machine: probe.Machine) -> Iterator[Found]:
    """Kernel, user namespaces, seccomp, subordinate ids, /proc, cgroups and limits."""
    yield _kernel(machine)
    yield _user_namespaces(machine)
    yield _supervision()
    if machine.uid:
        yield from _subordinate_ids(machine)
    yield _privileges()
    yield _proc()
    yield _cgroups()
    yield from _limits()


def _kernel(machine: probe.Machine) -> Found:
    release = os.uname().release
    if machine.kernel < (5, 12):
        return "kernel", "missing", f"Linux {release}", "Linux 5.12 or newer runs steps in namespaces."
    if machine.kernel < (5, 19):
        return "kernel", "warning", f"Linux {release}; single-id is quicker from 5.19 on", ""
    return "kernel", "ok", f"Linux {release}", ""


def _user_namespaces(machine: probe.Machine) -> Found:
    name = "user namespaces"
    if machine.setting("user/max_user_namespaces") == "0":
        return (
            name,
            "missing",
            "user.max_user_namespaces = 0",
            "As root: sysctl -w user.max_user_namespaces=15000",
        )
    if machine.setting("kernel/unprivileged_userns_clone") == "0":
        cure = "As root: sysctl -w kernel.unprivileged_userns_clone=1"
        return name, "missing", "kernel.unprivileged_userns_clone = 0", cure
    if machine.setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        cure = "As root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        return name, "warning", "kernel.apparmor_restrict_unprivileged_userns = 1", cure
    if not Path("/proc/self/ns/user").exists():
        return name, "missing", "not in this kernel", "Use a kernel with CONFIG_USER_NS."
    return name, "ok", f"at most {machine.setting('user/max_user_namespaces') or 'unknown'}", ""


def _supervision() -> Found:
    name = "seccomp user notification"
    if probe.supervision():
        return name, "ok", "available", ""
    return name, "missing", "not available", "Use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or arm64."


def _subordinate_ids(machine: probe.Machine) -> Iterator[Found]:
    try:
        userns.require_ranges(machine.uid, machine.subuid, machine.subgid)
        count = sum(found.size for found in machine.subuid)
        yield "subordinate ids", "ok", f"{count} uids", ""
    except SandboxError as error:
        yield "subordinate ids", "warning", error.message, error.cure
    try:
        tools = userns.require_tools()
    except SandboxError as error:
        yield "newuidmap", "warning", error.message, error.cure
        return
    for tool in tools:
        if not _privileged(tool):
            yield "newuidmap", "warning", f"{tool} has no privileges", f"As root: chmod u+s {tool}"
            return
    yield "newuidmap", "ok", tools[0], ""


def _privileged(tool: str) -> bool:
    if os.stat(tool).st_mode & stat.S_ISUID:
        return True
    try:
        return bool(os.getxattr(tool, "security.capability"))
    except OSError:
        return False


def _privileges() -> Found:
    fields = _status()
    notes = []
    if fields.get("NoNewPrivs") == "1":
        notes.append("no_new_privs is set, so newuidmap gains nothing")
    if fields.get("Seccomp") == "2":
        notes.append("a seccomp filter is in force")
    notes.append(f"capabilities {fields.get('CapEff', 'unknown').lstrip('0') or 'none'}")
    try:
        label = Path("/proc/self/attr/current").read_text().strip("\0\n ")
    except OSError:
        label = ""
    if label and label != "unconfined":
        notes.append(f"security label {label}")
    for mark, engine in (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")):
        if os.path.exists(mark):
            notes.append(f"inside a container of {engine}")
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        notes.append("inside a Kubernetes pod")
    return "confinement", "ok", "; ".join(notes), ""


def _status() -> dict[str, str]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _proc() -> Found:
    covered = [
        line.split()[1] for line in _mounts() if line.split()[1].startswith("/proc/") and "binfmt" not in line
    ]
    if not covered:
        return "/proc", "ok", "fully visible", ""
    cure = "In a container: --security-opt systempaths=unconfined. Builds work as it is."
    return "/proc", "warning", f"masked at {len(covered)} places: RUN sees the outer processes' names", cure


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return []


def _cgroups() -> Found:
    """Never needed: only limits on memory and processors are."""
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    hybrid = not unified and os.path.exists("/sys/fs/cgroup/unified")
    kind = "version 2" if unified else "hybrid" if hybrid else "version 1 or none"
    try:
        with cgroups.group(Limits(memory=1 << 30, cpus=1), 0):
            return "cgroups", "ok", f"{kind}: --memory and --cpus work", ""
    except (SandboxError, OSError) as error:
        cure = error.cure if isinstance(error, SandboxError) else ""
        why = error.message if isinstance(error, SandboxError) else str(error)
        return "cgroups", "warning", f"{kind}: --memory and --cpus have no effect ({why})", cure


def _limits() -> Iterator[Found]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = hard != resource.RLIM_INFINITY and hard < _LOW_FILES
    cure = "Raise it: ulimit -Hn 65536 (as root), or LimitNOFILE= of the service." if low else ""
    yield "open files", "warning" if low else "ok", f"{_limit(soft)}, at most {_limit(hard)}", cure
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    yield "processes", "ok", f"{_limit(soft)}, at most {_limit(hard)}", ""
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size != resource.RLIM_INFINITY:
        yield "file size", "warning", f"at most {size} bytes a file", "ulimit -f unlimited"


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def store_checks(store: Store) -> Iterator[Found]:
    """Where the store is, on what file system, with how much room."""
    root = os.fspath(store.root)
    kind = _file_system(root)
    poor = kind in _POOR_FILE_SYSTEMS
    cure = "Put it on ext4, xfs, btrfs or tmpfs: MINIBUILD_ROOT=/path (in a container, a volume)."
    yield "store", "warning" if poor else "ok", f"{root} on {kind}", cure if poor else ""
    yield _attributes(root)
    free = shutil.disk_usage(root).free
    files = os.statvfs(root).f_favail
    low = free < _LOW_DISK
    yield (
        "disk space",
        "warning" if low else "ok",
        f"{free / 1e9:.1f} GB free{'' if files else ', and no inodes left'}",
        "minibuild cache prune" if low else "",
    )
    if not os.access(_temporary(), os.W_OK):
        yield "temporary files", "warning", f"{_temporary()} cannot be written to", "Set TMPDIR."


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"


def _attributes(root: str) -> Found:
    path = f"{root}/.doctor-{os.urandom(6).hex()}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.setxattr(fd, "user.minibuild.test", b"1")
    except OSError as error:
        cure = "Keep the store on a file system with extended attributes (ext4, xfs, btrfs)."
        return "extended attributes", "missing", os.strerror(error.errno or 0), cure
    finally:
        os.close(fd)
        os.unlink(path)
    return "extended attributes", "ok", "kept by the store's file system", ""


def _file_system(path: str) -> str:
    """The kind of file system that `path` is on, by the longest mount point above it."""
    best, kind = "", "unknown"
    real = os.path.realpath(path)
    for line in _mounts():
        _source, place, name, *_ = line.split()
        place = place.encode().decode("unicode_escape")
        if len(place) >= len(best) and (real == place or real.startswith(place.rstrip("/") + "/")):
            best, kind = place, name
    return kind
