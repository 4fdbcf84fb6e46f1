"""Keeping a store in bounds: the cap after every build, and removing what subordinate users own."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.errors import StoreBusy
from minibuild_store.files import Remove, remove_tree
from minibuild_store.store import Store

from minibuild.errors import MinibuildError, UsageError

if TYPE_CHECKING:
    from minibuild.cache.collect import Collected
    from minibuild.cache.eviction import Policy
    from minibuild.sandbox.client import Sandbox

CAP_VARIABLE = "MINIBUILD_KEEP_STORAGE"
_SIZE = r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\Z"
_RACY_NS = 10**9  # a folder's time tells nothing of what comes within the same tick of the clock
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_size(text: str, option: str) -> int:
    """``10GB``, ``512MiB``, ``1000000`` in bytes; raises `UsageError`."""
    match = re.match(_SIZE, text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(
            f"{option} {text!r} is no size", cure="Write it as 10GB, 512MiB or a number of bytes."
        )
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " kmgt".index(match[2].lower() or " "))


def parse_age(text: str, option: str) -> float:
    """``90s``, ``12h``, ``7d``, ``2w`` or Go's ``1h30m`` in seconds; raises `UsageError`."""
    total, rest = 0.0, text.strip().lower()
    while rest:
        match = re.match(r"(\d+(?:\.\d+)?)([smhdw])", rest)
        if match is None:
            break
        total += float(match[1]) * _SECONDS[match[2]]
        rest = rest[match.end() :]
    if rest or not text.strip():
        raise UsageError(f"{option} {text!r} is no length of time", cure="Write it as 12h, 7d or 2w.")
    return total


def cap_from(environ: Mapping[str, str]) -> int | None:
    """The most bytes to keep: ``$MINIBUILD_KEEP_STORAGE``, else the config file's; None: no limit."""
    text = environ.get(CAP_VARIABLE, "")
    if text:
        return parse_size(text, CAP_VARIABLE)
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(environ.get("HOME", ""), ".config")
    path = Path(base, "minibuild", "config.toml")
    try:
        data = path.read_bytes()
    except OSError:
        return None
    import tomllib

    try:
        value = tomllib.loads(data.decode()).get("cache", {}).get("keep-storage")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path} is malformed: {error}", cure="Correct it, or move it away.") from None
    if value is None:
        return None
    return parse_size(str(value), f"{path}: keep-storage")


@contextmanager
def remover(isolation: str = "auto") -> Iterator[Remove]:
    """Deletes folders, by a sandbox (started when first needed) where files belong to subordinate users."""
    sandbox: Sandbox | None = None

    def remove(folder: Path) -> None:
        nonlocal sandbox
        try:
            remove_tree(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass
        from minibuild.sandbox.client import Sandbox
        from minibuild.sandbox.executor import own_isolation

        try:
            if sandbox is None:
                sandbox = Sandbox.start(own_isolation(isolation))
            sandbox.remove(folder)
        except MinibuildError as error:
            raise OSError(str(error)) from None

    try:
        yield remove
    finally:
        if sandbox is not None:
            sandbox.close()


def make_room(store: Store, policy: Policy, *, dry_run: bool = False, isolation: str = "auto") -> Collected:
    """`collect`, with the means to delete what this user's subordinate ids own."""
    from minibuild.cache.collect import collect

    with remover(isolation) as remove:
        return collect(store, policy, dry_run=dry_run, remove=remove)


def keep_for(store: Store, free: int, keep: int | None) -> int:
    """The bytes that may stay so that `free` are free on the store's disk, and no more than `keep` stay."""
    from minibuild.cache.inventory import Inventory

    disk = os.statvfs(store.root)
    held = Inventory(store).bytes
    most = max(0, held - max(0, free - disk.f_bavail * disk.f_frsize))
    return most if keep is None else min(keep, most)


def keep_cap(store: Store, cap: int, isolation: str) -> Collected | None:
    """Bring the store below `cap` bytes; None where there was nothing to do, or another does it already.

    Counting reads every record, so a count that found room holds until something comes or goes.
    """
    counted = store.records("counted")
    began = time.time_ns()
    times = store.folder_times()
    note = f"{cap} {times}".encode()
    if counted.get("cap") == note:
        return None
    from minibuild.cache.collect import collect
    from minibuild.cache.eviction import Policy
    from minibuild.cache.inventory import Inventory

    if Inventory(store).bytes <= cap:
        if began - max(times) > _RACY_NS:
            counted.put("cap", note)
        return None
    with suppress(StoreBusy), remover(isolation) as remove:
        return collect(store, Policy(keep_bytes=cap), remove=remove, timeout=0)
    return None
