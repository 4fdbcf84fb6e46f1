"""What the last argument of a build names: a folder, or a Dockerfile or archive on standard input."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from minibuild.errors import UsageError
from minibuild.values import dataclass

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(slots=True)
class OpenedContext:
    """A context ready to build from; leaving the block removes what was unpacked for it."""

    folder: Path | None
    dockerfile: Path | None
    text: bytes | None
    stack: ExitStack

    def __enter__(self) -> OpenedContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def open_context(context: str, dockerfile: str, stdin: BinaryIO) -> OpenedContext:
    """Read what `context` and ``-f dockerfile`` say; ``-`` is standard input. Raises `UsageError`."""
    stack = ExitStack()
    text = None
    if dockerfile == "-":
        if context == "-":
            raise UsageError(
                "the Dockerfile and the context cannot both come from standard input",
                cure="Name a folder as the context, or leave -f out.",
            )
        text = stdin.read()
    if context == "-":
        return _from_stdin(stdin, dockerfile, stack)
    folder = Path(context)
    path = None
    if dockerfile and dockerfile != "-":
        path = Path(dockerfile)
        inside = folder / dockerfile
        if not path.exists() and inside.exists():
            path = inside
    return OpenedContext(folder, path, text, stack)


def _from_stdin(stdin: BinaryIO, dockerfile: str, stack: ExitStack) -> OpenedContext:
    head = stdin.read(512)
    if not head.startswith(_ARCHIVES) and head[257:262] != b"ustar":
        return OpenedContext(None, None, head + stdin.read(), stack)
    folder = _unpack(head, stdin, stack)
    return OpenedContext(folder, folder / dockerfile if dockerfile else None, None, stack)


def _unpack(head: bytes, stdin: BinaryIO, stack: ExitStack) -> Path:
    """Unpack an archive into a temporary folder, owners and devices left out."""
    import io
    import tarfile
    import tempfile

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="minibuild-context-")))
    data = io.BytesIO(head + stdin.read())
    try:
        with tarfile.open(fileobj=data) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise UsageError(f"cannot read the context archive on standard input: {error}") from None
    return folder
