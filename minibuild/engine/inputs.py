"""What a build reads before it plans: the Dockerfile and the ignore file."""

from __future__ import annotations

from pathlib import Path

from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.engine.request import BuildRequest
from minibuild.errors import UsageError


def read_dockerfile(request: BuildRequest) -> tuple[str, bytes]:
    """The Dockerfile's name for messages and its text; raises `UsageError` where there is none."""
    if request.dockerfile_text is not None:
        return "Dockerfile", request.dockerfile_text
    context = request.context
    if context is not None and not context.is_dir():
        what = "is a file" if context.exists() else "does not exist"
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
        return _shown_name(path, context), path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no Dockerfile at {path}", cure=_other_dockerfile(path)) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", cure="Name a readable file with -f."
        ) from None


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
    """``<Dockerfile>.dockerignore`` beside the Dockerfile, else ``.dockerignore`` in the context."""
    if request.context is None:
        return None
    candidates = [request.context / ".dockerignore"]
    if request.dockerfile_text is None:
        path = request.dockerfile or request.context / "Dockerfile"
        candidates.insert(0, path.with_name(path.name + ".dockerignore"))
    for path in candidates:
        try:
            return IgnoreFile.parse(path.read_bytes(), path.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", cure="Change its mode.") from None
    return None
