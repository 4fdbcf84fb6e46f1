"""An entry that has its place in a layer to be written."""

from __future__ import annotations

from minibuild.layers.entry import Entry
from minibuild.values import NamedTuple


class Placed(NamedTuple):
    """An entry of the new layer. `where` names its content as the row did.

    `data` is content held inline, or where it waits for its turn (`Waiting`); `spooled` says that `where` is
    a file of our own. Entries of one non-empty `inode` are names of one file.
    """

    entry: Entry
    where: bytes = b""
    data: bytes | int | None = None
    inode: bytes = b""
    stamp: bytes = b""
    spooled: bool = False
