"""The way to an archive's last entry, so that the next one's folder is not looked for from the root again."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.layers.entry import Kind


class Way:
    """Folders by the names that an archive has for them, each leading to the next, and where they really are.

    `kind` says what is at a path, `make` makes a folder of which the parent is there, where it is missing.
    """

    def __init__(self, kind: Callable[[bytes], Kind | None], make: Callable[[bytes], None]) -> None:
        self._kind = kind
        self._make = make
        self._base = b""
        self._folders: list[tuple[bytes, bytes]] = []

    def leave(self) -> None:
        """Forget it, as a folder on it may be another thing now."""
        self._folders = []

    def begin(self, base: bytes) -> None:
        """Begin at the folder `base`, which is there."""
        self._base = base
        self._folders = [(b"", base)]

    def begins_at(self, base: bytes) -> bool:
        return bool(self._folders) and self._base == base

    def on(self, name: bytes, folder: bytes) -> None:
        """Go on to the folder that the archive calls `name`."""
        self._folders.append((name, folder))

    def to(self, wanted: bytes) -> bytes | None:
        """Where the folder is that the archive calls `wanted`; each one on the way there is made.

        None where names alone do not lead there.
        """
        name, folder = self._folders[-1]
        while name and wanted != name and not wanted.startswith(name + b"/"):
            self._folders.pop()
            name, folder = self._folders[-1]
        if wanted == name:
            return folder
        for part in wanted[len(name) + 1 if name else 0 :].split(b"/"):
            path = folder + b"/" + part if folder else part
            if part in (b"", b".", b"..") or self._kind(path) is Kind.SYMLINK:
                return None
            self._make(path)
            name, folder = name + b"/" + part if name else part, path
            self.on(name, folder)
        return folder
