"""Making room: what a policy takes goes, with all that it alone kept.

`cache.eviction` says what that is, `cache.kept` what stays.
"""

from __future__ import annotations

import time
from contextlib import suppress

from minibuild_store.errors import StoreBusy, StoreFull
from minibuild_store.files import Remove, remove_tree
from minibuild_store.gc import GcReport, Roots
from minibuild_store.records import record_path
from minibuild_store.store import Store

from minibuild.cache import kept
from minibuild.cache.eviction import Plan, Policy, plan_for
from minibuild.cache.inventory import Inventory
from minibuild.cache.steps import Eviction, StepCache
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do: the plan, and the store's own report."""

    plan: Plan
    report: GcReport
    mounts: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return self.report.bytes + sum(t.unpacked for t in self.plan.things if t.folder in self.mounts)


def collect(
    store: Store,
    policy: Policy,
    *,
    dry_run: bool = False,
    remove: Remove = remove_tree,
    timeout: float | None = None,
    now_ns: int | None = None,
) -> Collected:
    """Sweep `store` and evict by `policy`. Builds go on meanwhile, and lose nothing that they use.

    `remove` deletes folders whose files may belong to subordinate users. Raises `StoreBusy` where another
    collection runs for longer than `timeout` seconds.
    """
    plan = Plan()

    def roots() -> Roots:
        nonlocal plan
        now = time.time_ns() if now_ns is None else now_ns
        inventory = Inventory(store)
        plan = plan_for(inventory, policy, now)
        staying = kept.Kept(store, inventory, plan, policy, now).roots()
        if not dry_run:
            _note(store, plan, now)
        return staying

    report = store.gc(roots, dry_run=dry_run, remove=remove, timeout=timeout)
    if not dry_run:
        _unnote(store, plan, report)
    mounts = tuple(thing.folder for thing in plan.things if thing.kind == "mount")
    if not dry_run:
        mounts = tuple(folder for folder in mounts if remove_mount(store, folder, remove))
    return Collected(plan, report, mounts)


def _note(store: Store, plan: Plan, now_ns: int) -> None:
    """Remember what takes each step, before it is taken: who misses it then can say why."""
    cache = StepCache(store)
    with suppress(StoreFull):  # to make room comes first
        for key in list(plan.steps)[-kept.MOST_EVICTIONS :]:
            known = cache.eviction(key) if plan.steps[key] == "damage" else None
            if known is None:  # what `cache verify` has said of a damaged one stays
                cache.evict(key, Eviction(plan.steps[key], now_ns / 1e9))


def _unnote(store: Store, plan: Plan, report: GcReport) -> None:
    """Forget it of steps that a build has used meanwhile, which stay for that."""
    taken = {item.name for item in report.removed if item.kind == "record"}
    cache = StepCache(store)
    for key in plan.steps:
        if record_path("steps", key) not in taken and cache.get(key) is not None:
            cache.spared(key)


def remove_mount(store: Store, folder: str, remove: Remove) -> bool:
    """Delete a cache mount unless a step uses it."""
    path = store.caches / folder
    try:
        with store.lock(f"cache {path}", timeout=0):
            remove(path)
    except (StoreBusy, OSError):
        return False
    store.records("packed-mounts").delete(folder)
    if folder.partition("-")[0] == folder:
        store.records("mounts").delete(folder)
    return True
