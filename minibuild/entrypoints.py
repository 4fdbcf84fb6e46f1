"""What other packages add: cache types, output types and executors, found by their entry points.

Only names that are not built in are looked for: reading what is installed takes longer than a cached build.
"""

from __future__ import annotations

from typing import Any

from minibuild.errors import UsageError

CACHE_BACKENDS = "minibuild.cache_backends"
"""``type=`` of ``--cache-from`` and ``--cache-to``: `cache.backend.Factory`."""

EXPORTERS = "minibuild.exporters"
"""``type=`` of ``--output``: `exporters.exporter.Factory`."""

EXECUTORS = "minibuild.executors"
"""Names for ``--isolation``: `sandbox.executor.Factory`."""


def installed(group: str) -> tuple[str, ...]:
    """The names that packages bring, sorted."""
    from importlib.metadata import entry_points

    return tuple(sorted({point.name for point in entry_points(group=group)}))


def load(group: str, name: str) -> Any:
    """What the entry point `name` stands for, None where nobody brings one.

    Raises `UsageError` where its package is broken.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except Exception as error:  # whatever somebody's module does when it is imported
            package = point.dist.name if point.dist is not None else point.value
            raise UsageError(
                f"{name!r} of the package {package} cannot be loaded: {type(error).__name__}: {error}",
                cure="Repair or uninstall that package.",
            ) from error
    return None
