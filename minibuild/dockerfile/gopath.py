"""Slash-separated paths as Go's path package cleans them."""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """The shortest path equal to `path` by its text alone; ``.`` for an empty one."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path  # POSIX gives two slashes a meaning, Go does not


def base(path: str) -> str:
    """The last element of `path`: ``.`` for an empty one, ``/`` for slashes alone."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"
