"""What a build reads before it plans: where its files come from, the Dockerfile, the ignore file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild.credentials import redacted
from minibuild.dockerfile.lines import LARGEST
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.request import BuildRequest
from minibuild.engine.session import Session
from minibuild.errors import UsageError
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.dockerfile.ignorefile import IgnoreFile
    from minibuild.engine.remote_context import Remote


class Inputs(NamedTuple):
    """The Dockerfile's `name` and `text`, and the build context: a `folder`, a `tree`, or neither.

    `modified` is when a remote context was made: its commit's time, or that of the file (seconds).
    `place` names the Dockerfile, so that the next build of it finds how this one went.
    """

    name: str
    text: bytes
    folder: Path | None
    tree: Filesystem | None
    ignore: IgnoreFile | None
    place: str
    modified: int | None = None


def read_inputs(session: Session) -> Inputs:
    """Read, and fetch first, what the session's request names. Raises a `MinibuildError`."""
    request = session.request
    if request.context_url:
        from minibuild.engine.remote_context import open_url

        return _read_remote(session, open_url(session, request.context_url), redacted(request.context_url))
    context = request.context
    if context is not None and context.is_file():
        from minibuild.engine.remote_context import open_archive

        shown = request.origin or str(context)
        return _read_remote(session, open_archive(session, context, shown), shown)
    name, text = read_dockerfile(session)
    return Inputs(
        name, text, context, None, read_ignore_file(request),
        _place(context.resolve() if context is not None else request.origin, name, request),
    )  # fmt: skip


def read_context(session: Session) -> Inputs:
    """Like `read_inputs`, for the context alone: there need be no Dockerfile."""
    try:
        return read_inputs(session)
    except UsageError:
        request = session.request
        if request.context is None or not request.context.is_dir():
            raise
        return Inputs("", b"", request.context, None, read_ignore_file(request), "")


def _place(context: Path | str, name: str, request: BuildRequest) -> str:
    return f"{context}\n{name}\n{request.target}"


def _read_remote(session: Session, remote: Remote, shown: str) -> Inputs:
    """No ignore file counts for a context that was fetched, as in BuildKit; ``--ignorefile`` does."""
    request = session.request
    name, text = "Dockerfile", _given_text(session)
    if text is None and request.dockerfile is None and remote.text is not None:
        text = remote.text
    if text is None:
        name = str(request.dockerfile or name)
        text = _remote_file(session, remote, name)
        if text is None and request.dockerfile is None:
            text = _remote_file(session, remote, name.lower())
    if text is None:
        raise UsageError(f"no {name} in {shown}", cure="Name one with -f: a path inside the context.")
    ignore = _read_ignore(request.ignorefile) if request.ignorefile is not None else None
    return Inputs(
        name, text, remote.folder, remote.tree, ignore, _place(shown, name, request), remote.modified
    )


def _remote_file(session: Session, remote: Remote, name: str) -> bytes | None:
    """A file of the context, links followed inside it only: the context is somebody else's."""
    from minibuild.engine.remote_context import read_file, read_file_below

    if remote.tree is not None:
        return read_file(session, remote.tree, name)
    return None if remote.folder is None else read_file_below(remote.folder, name)


def _given_text(session: Session) -> bytes | None:
    """The Dockerfile where the caller gave its text or an address."""
    request = session.request
    if request.dockerfile_text is None and request.dockerfile_url:
        from minibuild.engine.remote_context import open_text

        return open_text(request.dockerfile_url, session)
    return request.dockerfile_text


def read_dockerfile(session: Session) -> tuple[str, bytes]:
    """The Dockerfile's name for messages and its text; raises `UsageError` where there is none."""
    request = session.request
    text = _given_text(session)
    if text is not None:
        return "Dockerfile", text
    context = request.context
    if context is not None and not context.is_dir():
        what = "is no folder" if context.exists() else "does not exist"
        raise UsageError(
            f"the build context {context} {what}",
            cure="Name the folder that holds the files to build from, as in: minibuild build .",
        )
    path = request.dockerfile
    if path is None:
        if context is None:
            raise UsageError("no Dockerfile was given", cure="Name one with -f, or a folder that holds one.")
        path = context / "Dockerfile"
    try:
        return _shown_name(path, context), _read_any_case(path)
    except FileNotFoundError:
        raise UsageError(f"no Dockerfile at {path}", cure=_other_dockerfile(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", cure="Name a readable file with -f."
        ) from None


def _read_any_case(path: Path) -> bytes:
    """``dockerfile`` stands in for ``Dockerfile``, as in BuildKit."""
    try:
        return _read(path)
    except FileNotFoundError:
        if path.name != "Dockerfile":
            raise
        return _read(path.with_name("dockerfile"))


def _read(path: Path) -> bytes:
    """The whole file; raises `UsageError` where it is too large."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if 0 < size <= LARGEST:
            return file.read()
        from minibuild.engine.plaintext import read_text, too_large

        if size:
            raise too_large(str(path))
        return read_text(file, str(path))


def _shown_name(path: Path, context: Path | None) -> str:
    if context is not None:
        try:
            return str(path.relative_to(context))
        except ValueError:
            pass
    return str(path)


def _other_dockerfile(path: Path) -> str:
    try:
        others = sorted(
            name.name
            for name in path.parent.iterdir()
            if "dockerfile" in name.name.lower() or name.name.lower() == "containerfile"
        )
    except OSError:
        others = []
    if others:
        return f"There is {others[0]}: name it with -f."
    return "Write one there, or name another with -f."


def read_ignore_file(request: BuildRequest) -> IgnoreFile | None:
    """``--ignorefile``, else ``<Dockerfile>.dockerignore`` beside it, else ``.dockerignore``."""
    if request.ignorefile is not None:
        return _read_ignore(request.ignorefile)
    if request.context is None:
        return None
    candidates = [request.context / ".dockerignore"]
    if request.dockerfile_text is None and not request.dockerfile_url:
        path = request.dockerfile or request.context / "Dockerfile"
        candidates.insert(0, path.with_name(path.name + ".dockerignore"))
    for path in candidates:
        try:
            text = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", cure="Change its mode.") from None
        return _ignore_file(text, path)
    return None


def _read_ignore(path: Path) -> IgnoreFile:
    try:
        text = _read(path)
    except OSError as error:
        raise UsageError(
            f"cannot read the ignore file {path}: {error.strerror}", cure="Check --ignorefile."
        ) from None
    return _ignore_file(text, path)


def _ignore_file(text: bytes, path: Path) -> IgnoreFile:
    from minibuild.dockerfile.ignorefile import IgnoreFile

    return IgnoreFile.parse(text, path.name)
