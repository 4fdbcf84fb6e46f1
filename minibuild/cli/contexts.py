"""What the last argument of a build and ``-f`` name: folders and files, addresses, standard input."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from minibuild.engine.address import is_remote, is_url
from minibuild.errors import UsageError
from minibuild.values import NamedTuple

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_CHUNK = 1 << 20


class Given(NamedTuple):
    """The fields of a `BuildRequest` by their names there."""

    context: Path | None = None
    context_url: str = ""
    origin: str = ""
    dockerfile: Path | None = None
    dockerfile_text: bytes | None = None
    dockerfile_url: str = ""


def given(context: str, file: str, stdin: BinaryIO, stack: ExitStack) -> Given:
    """Read `context` and ``-f file``; ``-`` is standard input, kept in a file as long as `stack` if need be.

    Raises `UsageError`.
    """
    found = Given()
    if file == "-":
        if context == "-":
            raise UsageError(
                "the Dockerfile and the context cannot both come from standard input",
                cure="Name a folder as the context, or leave -f out.",
            )
        from minibuild.engine.plaintext import read_text

        found = found._replace(dockerfile_text=read_text(stdin, "the Dockerfile"))
    elif is_url(file):
        found = found._replace(dockerfile_url=file)
    elif file:
        found = found._replace(dockerfile=Path(file))
    if context == "-":
        return _from_stdin(found, stdin, stack)
    if is_remote(context):
        return found._replace(context_url=context)
    folder = Path(context.removeprefix("file://"))
    if found.dockerfile is not None and folder.is_dir() and not found.dockerfile.exists():
        inside = folder / found.dockerfile
        if inside.exists():
            found = found._replace(dockerfile=inside)
    return found._replace(context=folder)


def _from_stdin(found: Given, stdin: BinaryIO, stack: ExitStack) -> Given:
    """An archive, else a Dockerfile that needs no context."""
    head = stdin.read(512)
    if not head.startswith(_ARCHIVES) and head[257:262] != b"ustar":
        if found.dockerfile is not None:
            raise UsageError(
                f"-f {found.dockerfile}: there is no context to find it in; standard input is no archive",
                cure="Name a folder as the context, or leave -f out to build the Dockerfile read there.",
            )
        from minibuild.engine.plaintext import read_text

        text = read_text(stdin, "standard input, which is no archive,", head)
        return found._replace(dockerfile_text=text, origin="-")
    import tempfile

    spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="minibuild-context-"))
    while head:
        spool.write(head)
        head = stdin.read(_CHUNK)
    spool.flush()
    return found._replace(context=Path(spool.name), origin="-")
