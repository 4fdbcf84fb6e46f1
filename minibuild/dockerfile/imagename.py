"""Whether a text could name an image, or a platform, at all: enough for build checks, no more.

The image model itself is `minibuild.oci`, which stands beside this package and not below it.
"""

from __future__ import annotations

import re

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
_LONGEST_NAME = 255

_SYSTEMS = re.compile(
    "aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|nacl|netbsd|openbsd|plan9|solaris|"
    "windows|zos"
)
_MACHINES = re.compile(
    "386|amd64(?:p32)?|arm(?:64)?(?:be)?|ppc(?:64(?:le)?)?|loong64|mips(?:64(?:p32)?)?(?:le)?|riscv(?:64)?|"
    "s390x?|sparc(?:64)?|wasm"
)
_ALIASES = {
    "i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm",
}  # fmt: skip


def is_image_name(text: str) -> bool:
    """Whether `text` is a reference, short or long: ``alpine``, ``host:5000/a/b:tag@digest``."""
    if re.fullmatch(r"[a-f0-9]{64}", text):
        return False  # an image ID, which no registry knows
    head, slash, rest = text.partition("/")
    if not slash or not (any(ch in ".:" for ch in head) or head == "localhost" or head.lower() != head):
        head, rest = "docker.io", text
    if head in ("docker.io", "index.docker.io"):
        head = "docker.io"
        if "/" not in rest:
            rest = f"library/{rest}"
    match = re.fullmatch(
        rf"({_HOST}/{_PART}(?:/{_PART})*)(?::{_TAG})?(?:@{_DIGEST})?", f"{head}/{rest}", re.ASCII
    )
    return match is not None and len(match[1]) - len(head) - 1 <= _LONGEST_NAME


def platform_parts(text: str, *, host: tuple[str, str] = ("linux", "amd64")) -> tuple[str, str] | None:
    """System and architecture of ``linux/amd64``, ``linux`` or ``arm64``, or None for anything else.

    What is left out is taken from `host`.
    """
    parts = text.split("/", 3)
    if len(parts) > 3 or not re.fullmatch(r"[A-Za-z0-9_-]+(?:\([A-Za-z0-9_.%+-]*\))?", parts[0]):
        return None
    if not all(re.fullmatch(r"[A-Za-z0-9_.-]+", part) for part in parts[1:]):
        return None
    system = parts[0].partition("(")[0].lower()
    system = "darwin" if system == "macos" else system
    if len(parts) > 1:
        machine = parts[1].lower()
        return system, _ALIASES.get(machine, machine)
    if _SYSTEMS.fullmatch(system):
        return system, host[1]
    machine = _ALIASES.get(parts[0].lower(), parts[0].lower())
    return (host[0], machine) if _MACHINES.fullmatch(machine) else None
