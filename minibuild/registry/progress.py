"""How transfers tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.oci.descriptor import Descriptor

Progress = Callable[[Descriptor, int], None]
"""Called with a descriptor and how many of its bytes are done (fewer again after a restart), from any thread.

What it raises ends the transfer: that is how a caller cancels."""


def silent(descriptor: Descriptor, done: int) -> None:
    """The progress of nobody watching."""
