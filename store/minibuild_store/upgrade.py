"""What a store of an older format needs to be one of this format; done once, when it is opened.

Format 1 spread records over 256 folders a kind, by hash. To make those took longer than to write the records.
"""

from __future__ import annotations

import contextlib
import os

_SPREAD = "records-v1"


def flatten_records(root: str, records: str) -> None:
    """Move the records of format 1 to the folder `records`, each by a rename; those moved before stay."""
    old = f"{root}/{_SPREAD}"
    for kind in _names(old):
        os.makedirs(f"{records}/{kind}", exist_ok=True)
        for group in _names(f"{old}/{kind}"):
            for name in _names(f"{old}/{kind}/{group}"):
                with contextlib.suppress(FileNotFoundError):  # removed by a program of format 1
                    os.rename(f"{old}/{kind}/{group}/{name}", f"{records}/{kind}/{group}{name}")
            _remove_empty(f"{old}/{kind}/{group}")
        _remove_empty(f"{old}/{kind}")
    _remove_empty(old)


def _remove_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # of no harm where it stays
        os.rmdir(folder)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
