"""Cases in which minibuild differs from BuildKit, with the reason; ``docs/dockerfile.md`` argues each."""

from __future__ import annotations

KNOWN: dict[str, str] = {}
