"""Dockerfiles and ignore files, which are read whole, but not whatever their size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from minibuild.dockerfile.lines import LARGEST
from minibuild.errors import UsageError


def read_text_at(path: Path, name: str) -> bytes:
    """The file at `path`, called `name` in messages; raises `UsageError` where it is too large."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise too_large(name)
        return read_text(file, name)


def read_text(file: IO[bytes], name: str, begun: bytes = b"") -> bytes:
    """The same of a stream, or of what is left of one that began with `begun`."""
    pieces, left = [begun], LARGEST - len(begun)
    while piece := file.read(1 << 20):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise too_large(name)
    return b"".join(pieces)


def too_large(name: str) -> UsageError:
    return UsageError(
        f"{name} is larger than {LARGEST >> 20} MiB",
        cure="Put large contents into files of the context, and COPY them.",
    )
