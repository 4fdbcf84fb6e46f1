"""The installed version."""

from __future__ import annotations


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("minibuild")
    except PackageNotFoundError:
        return "unknown"
