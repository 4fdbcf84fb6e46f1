"""SHA-256 of what is mostly short: names, keys, documents.

To load `hashlib` is to load OpenSSL: 2.5 ms, which it takes to hash 800 kB with the interpreter's own module.
That module is taken, as `random` does, unless the text is long or `hashlib` is there anyway.
What files hold goes to `hashlib` at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash
    from hashlib import sha256 as _own
else:
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256 as _own
        else:
            from _sha256 import sha256 as _own
    except ImportError:  # built without it
        from hashlib import sha256 as _own

SHORT = 1 << 16
"""Bytes up to which a text is no reason to load OpenSSL."""


def sha256(*parts: bytes | bytearray | memoryview) -> _Hash:
    """The hash state over `parts`, one after the other."""
    new = _own
    if "hashlib" in sys.modules or sum(map(len, parts)) > SHORT:
        from hashlib import sha256 as new
    state: _Hash = new()
    for part in parts:
        state.update(part)
    return state
