"""What a server of these tests does wrong when it is told to: ``server.fault(status(500), times=2)``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What to do in place of the right thing; see the functions below that make them."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    drop: bool = False
    cut: int | None = None
    stall: int | None = None
    change: Callable[[bytes], bytes] | None = None
    no_range: bool = False
    delay: float = 0.0
    location: Callable[[str], str] | None = None


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with `code`; header names have ``_`` for ``-``."""
    return Fault(code, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body)


def refuse(code: int, name: str, message: str = "as told") -> Fault:
    """Answer with `code` and an error body of the specification."""
    return Fault(code, body=json.dumps({"errors": [{"code": name, "message": message}]}).encode())


def drop() -> Fault:
    """Close the connection without an answer."""
    return Fault(drop=True)


def cut(after: int) -> Fault:
    """Close the connection after so many bytes of the answer's body, or of the request's for an upload."""
    return Fault(cut=after)


def stall(after: int) -> Fault:
    """Send no more after so many bytes of the answer's body, or no answer for -1, and keep the connection."""
    return Fault(stall=after)


def change(how: Callable[[bytes], bytes]) -> Fault:
    """Send another body than the right one."""
    return Fault(change=how)


def no_range() -> Fault:
    """Know nothing of Range."""
    return Fault(no_range=True)


def slow(seconds: float) -> Fault:
    """Answer late."""
    return Fault(delay=seconds)
