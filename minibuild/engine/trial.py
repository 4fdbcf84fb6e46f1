"""Whether a sandbox can really run something on a store: mounts are refused only when they are made.

What worked is remembered for as long as nothing that decides it has changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from minibuild_store.files import remove_tree
from minibuild_store.store import Store

from minibuild.errors import SandboxError
from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.spec import ProcessSpec, Rootfs

_FACTS = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/self/uid_map",
    "/proc/self/attr/current",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
)
_STATUS = ("CapEff:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:")


def known_to_work(store: Store) -> Callable[[Sandbox], None]:
    """A check that makes a trial of a sandbox once a boot."""
    records = store.records("trials")

    def check(sandbox: Sandbox) -> None:
        name = f"{sandbox.mode} {fingerprint(store)}"
        if records.get(name) is None:
            trial(store, sandbox)
            records.put(name, b"works")

    return check


def trial(store: Store, sandbox: Sandbox) -> None:
    """Run nothing at all, on a layer of nothing; raises `SandboxError` with what was refused."""

    def remove(folder: Path) -> None:
        try:
            remove_tree(folder)  # whose worker may not be up yet
        except OSError:
            sandbox.remove(folder)

    with store.snapshots.workspace(remove=remove) as work:
        below = (sandbox.form.make(work / "one"), sandbox.form.make(work / "two"))
        rootfs = Rootfs(below, sandbox.form.make(work / "upper"), work / "work")
        rootfs.work.mkdir(mode=0o700)
        status = sandbox.run(rootfs, ProcessSpec(argv=("/nothing",)))
        if status.code != 127:
            raise SandboxError(f"a trial run ended with exit code {status.code}")


def fingerprint(store: Store) -> str:
    """What decides whether a mode works: the boot, our rights, and where the store is."""
    parts = [str(os.geteuid()), str(os.stat(store.root).st_dev)]
    for path in _FACTS:
        try:
            parts.append(Path(path).read_text())
        except OSError:
            parts.append("")
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        parts += [line for line in status if line.startswith(_STATUS)]
    except OSError:
        pass
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
