"""How many build records are kept."""

from __future__ import annotations

from minibuild_store.store import Store


def forget_oldest(store: Store, kept: int) -> None:
    """Drop all but the `kept` newest build records."""
    builds = store.records("builds")
    entries = sorted(builds.entries(), key=lambda entry: entry.used_ns, reverse=True)
    for entry in entries[kept:]:
        builds.delete(entry.name)
