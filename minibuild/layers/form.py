"""How unpacked layers lie in a store: as they are, or with their owners recorded beside them.

A store may be used in several modes; a snapshot of one form is never taken for one of the other.
"""

from __future__ import annotations

from pathlib import Path

from minibuild.values import NamedTuple


class Form(NamedTuple):
    """A form of snapshots: what is put behind their names, and the folder inside that is the root."""

    suffix: str
    inner: str

    def name(self, base: str) -> str:
        """The name of the snapshot that is called `base` where files have their true owners."""
        return base + self.suffix

    def root(self, folder: Path) -> Path:
        """The root of the file system in a snapshot's folder."""
        return folder / self.inner if self.inner else folder

    def make(self, folder: Path) -> Path:
        """Make the empty folder of a snapshot to be; its root, which everybody may look into."""
        folder.mkdir(mode=0o755)
        root = self.root(folder)
        root.mkdir(exist_ok=True)
        root.chmod(0o755)  # whatever the umask is
        return root


EXACT = Form("", "")
# The table of owners (see `layers.owners`) needs a place beside the root.
RECORDED = Form(".one", "root")


def base_of(name: str) -> str:
    """The name without the form's suffix."""
    return name.removesuffix(RECORDED.suffix)
