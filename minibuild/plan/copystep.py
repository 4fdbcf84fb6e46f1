"""COPY and ADD, as a `CopyStep`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from minibuild.credentials import redacted
from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.words import expand_raw
from minibuild.errors import DockerfileError
from minibuild.plan.stagestate import Lookup, StageState
from minibuild.plan.steps import CopyItem, CopyStep, FromContext, GitItem, InlineItem, PathItem, UrlItem
from minibuild.values import replace

_CHECKSUM = r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z"


def apply(node: ast.Copy, state: StageState, lookup: Lookup, expander: Callable[[str], str]) -> None:
    """Add the step of `node` to `state`, with its history line."""
    word = "ADD" if node.add else "COPY"
    sources = [expander(source) for source in node.sources]
    written_dest = expander(node.dest)
    chown, chmod = expander(node.chown), expander(node.chmod)
    checksum = expander(node.checksum)
    if chmod:
        from minibuild.plan.chmod import check_chmod

        check_chmod(chmod, node.where)
    check_from(node, expander)
    items: list[CopyItem] = [remote_item(source, node, checksum) or PathItem(source) for source in sources]
    _check_checksum(checksum, items, node)
    inline = [
        InlineItem(
            _file_name(doc.name, node),
            expand_raw(doc.content, state.scope.variables).text if doc.expand else doc.content,
        )
        for doc in node.heredocs
    ]
    text = word
    text += " --parents" if node.parents else ""
    text += f" --chown={chown}" if chown else ""
    text += f" --chmod={chmod}" if chmod else ""
    text += "".join(f" {source}" for source in sources) + "".join(f" <<{doc.name}" for doc in node.heredocs)
    shown = (
        f"{word} {expander(node.code.partition(' ')[2])}" if not node.heredocs else f"{text} {written_dest}"
    )
    state.steps.append(
        CopyStep(
            name=state.prefix() + redacted(shown),
            instruction=redacted(node.code),
            where=node.where,
            cacheable=state.cacheable,
            source=lookup(node.from_, state, node.where) if node.from_ else FromContext(),
            items=(*items, *inline),
            dest=destination(state.config.working_dir, written_dest),
            chown=chown,
            chmod=chmod,
            link=node.link and not chmod,  # as BuildKit, which ignores --link beside --chmod
            parents=node.parents,
            exclude=node.exclude,
            unpack=node.add if node.unpack is None else node.unpack,
        )
    )
    state.record(f"{text} {written_dest} # buildkit", layer=True)


def check_from(node: ast.Copy, expander: Callable[[str], str]) -> None:
    """Raise `DockerfileError` where ``--from`` has a variable."""
    if node.from_ and expander(node.from_) != node.from_:
        raise DockerfileError(
            "variable expansion is not supported for --from",
            where=node.where,
            cure="Define a stage with FROM using an ARG from the global scope, and copy from that stage.",
        )


def _file_name(name: str, node: ast.Copy) -> str:
    """What the file of the here-document `name` is called. Raises `DockerfileError` for a path."""
    path = posixpath.normpath(posixpath.join("/", name)).lstrip("/")
    if "/" in path or not path:
        raise DockerfileError(
            f"open /{path}: no such file or directory",
            where=node.where,
            cure="A here-document's name is that of the file: leave the folder to the destination.",
        )
    return path


def destination(working_dir: str, written: str) -> str:
    """`written` made absolute; a trailing slash (or ``/.``) stays one, since it means a folder."""
    folder = written in ("", ".") or written.endswith(("/", "/."))
    path = posixpath.normpath(posixpath.join("/", working_dir or "/", written))
    path = "/" + path.lstrip("/")
    return path if not folder or path == "/" else f"{path}/"


def remote_item(source: str, node: ast.Copy, checksum: str) -> UrlItem | GitItem | None:
    """What `source` has to be fetched from, None for a path. Raises `DockerfileError`."""
    if "://" not in source and "@" not in source:
        return None
    from minibuild.plan.giturl import parse_git_url

    git = parse_git_url(source, where=node.where)
    if git is not None:
        if not node.add:
            raise DockerfileError("source can't be a git ref for COPY", where=node.where, cure="Use ADD.")
        return _git_item(git, node, checksum)
    if source.startswith(("http://", "https://")):
        if not node.add:
            raise DockerfileError("source can't be a URL for COPY", where=node.where, cure="Use ADD.")
        from urllib.parse import unquote, urlsplit

        name = posixpath.basename(unquote(urlsplit(source).path).rstrip("/"))
        return UrlItem(source, name or "__unnamed__", checksum, unpack=bool(node.unpack))
    return None


def _git_item(git: GitItem, node: ast.Copy, checksum: str) -> GitItem:
    if git.checksum and checksum and git.checksum != checksum:
        raise DockerfileError(f"checksum mismatch {checksum!r} != {git.checksum!r}", where=node.where)
    if None not in (git.keep_git_dir, node.keep_git_dir) and git.keep_git_dir != node.keep_git_dir:
        raise DockerfileError(
            "inconsistent keep-git-dir configuration", where=node.where, cure="Leave it out of the URL."
        )
    keep = node.keep_git_dir if git.keep_git_dir is None else git.keep_git_dir
    return replace(git, checksum=checksum or git.checksum, keep_git_dir=keep)


def _check_checksum(checksum: str, items: list[CopyItem], node: ast.Copy) -> None:
    if not checksum:
        return
    if not node.add:
        raise DockerfileError("checksum can't be specified for COPY", where=node.where, cure="Use ADD.")
    if len(items) != 1:
        raise DockerfileError("checksum can't be specified for multiple sources", where=node.where)
    if isinstance(items[0], PathItem):
        raise DockerfileError("checksum requires HTTP(S) or Git sources", where=node.where)
    if isinstance(items[0], UrlItem) and not re.match(_CHECKSUM, checksum):
        raise DockerfileError(
            f"invalid checksum digest format: {checksum!r}",
            where=node.where,
            cure="Write it as sha256:<64 hex digits>.",
        )
