"""Telling an address from a path."""

from __future__ import annotations

import os
import re

_SCHEMES = ("http://", "https://", "git://", "ssh://")
_SCP = r"[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:(?!//)"


def is_remote(text: str) -> bool:
    """Whether `text` names something to fetch; ``github.com/USER/REPO`` does where no such folder is here."""
    if text.startswith(_SCHEMES) or ("@" in text and re.match(_SCP, text)):
        return True
    if text.startswith("file://"):
        return re.split("[?#]", text, maxsplit=1)[0].endswith(".git")
    return text.startswith("github.com/") and not os.path.lexists(text.partition("#")[0])


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
