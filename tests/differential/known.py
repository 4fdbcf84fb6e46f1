"""Cases in which minibuild differs from BuildKit, with the reason; ``docs/dockerfile.md`` argues each."""

from __future__ import annotations

KNOWN: dict[str, str] = {
    "copy/glob_class_as_escape": "[*] is a literal star, as the pattern language says; BuildKit finds nothing",
    "copy/socket": "a socket is left out; BuildKit makes an empty file of it",
}
