"""Passwords and tokens in addresses, which nobody gets to see."""

from __future__ import annotations

import re

# What stands before a host: with https all of it, where tokens stand for users, else what follows a colon.
_CREDENTIALS = r"(https?://|[a-z+]+://[^/@:\s]*:)[^/\s'\"]*@"


def redacted(text: str) -> str:
    """`text` with ``xxxxx`` for the passwords and tokens of addresses in it."""
    if "@" not in text:  # which is to say nearly always: the pattern is not even compiled
        return text
    return re.sub(_CREDENTIALS, r"\1xxxxx@", text, flags=re.IGNORECASE)
