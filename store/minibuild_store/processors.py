"""How many processors this process may use: those it may run on, or what its control groups let it have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

PROC: Final = "/proc/self"
_BOUNDS: Final = ("pids.max", "memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us")
_UNBOUNDED: Final = 1 << 62  # memory in version 1: as many bytes as there can be
_UNIFIED: Final = ""  # what stands for the controllers of version 2 in proc(5)


def processors(proc: str = PROC) -> int:
    """One at least. `proc` is this process's folder (proc(5)).

    Quotas of the control groups that it is in count, rounded up: a container on a large machine may run on 64
    processors, and have the time of two.
    """
    count = len(os.sched_getaffinity(0))
    try:
        groups = own_groups(proc)
    except (OSError, ValueError):  # nothing of the kind here
        return count
    for controller, quota in (("cpu", _first_quota), (_UNIFIED, _second_quota)):
        for group in _ancestry(groups.get(controller, "")):
            count = min(count, quota(group) or count)
    return count


def bounds(proc: str = PROC) -> list[tuple[str, str]]:
    """What this process's control groups let it have, where that is not all: files and their texts.

    Of processes, memory and processor time.
    """
    try:
        groups = {group for own in own_groups(proc).values() for group in _ancestry(own)}
    except (OSError, ValueError):  # nothing of the kind here
        return []
    found = []
    for path in sorted(f"{group}/{name}" for group in groups for name in _BOUNDS):
        try:
            text = _text(path)
            most, *_ = text.split()
            if most != "max" and 0 <= int(most) < _UNBOUNDED:
                found.append((path, text))
        except (OSError, ValueError):
            pass
    return found


def _ancestry(group: str) -> Iterator[str]:
    """The group and those that it is in, as far as they are in sight; none for ""."""
    while len(group) > 1 and os.path.exists(f"{group}/cgroup.procs"):
        yield group
        group = os.path.dirname(group)


def own_groups(proc: str = PROC) -> dict[str, str]:
    """The folder of our control group in each hierarchy that is in sight: by controller, "" for version 2.

    See cgroups(7). Raises `OSError` and `ValueError`.
    """
    own: dict[str, str] = {}
    for line in _text(f"{proc}/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    found = {}
    for line in _text(f"{proc}/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, place = before.split()[3:5]
        for controller in (_UNIFIED,) if kind == "cgroup2" else options.split(","):
            if controller in own and f"{own[controller]}/".startswith(f"{root.rstrip('/')}/"):
                below = os.path.relpath(own[controller], root)
                found[controller] = os.path.normpath(f"{place}/{below}")
    return found


def _first_quota(group: str) -> int:
    """Version 1; 0 for none (sched-bwc.rst)."""
    try:
        return _rounded_up(_text(f"{group}/cpu.cfs_quota_us"), _text(f"{group}/cpu.cfs_period_us"))
    except (OSError, ValueError):
        return 0


def _second_quota(group: str) -> int:
    """Version 2; 0 for none (cgroup-v2.rst)."""
    try:
        return _rounded_up(*_text(f"{group}/cpu.max").split())
    except (OSError, ValueError, TypeError):
        return 0


def _rounded_up(quota: str, period: str) -> int:
    """`quota` is "max" or -1 where there is none. Raises `ValueError`."""
    return max(0, -(-int(quota) // max(1, int(period)))) if quota != "max" else 0


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
