"""Git URLs as BuildKit reads them: ``https://host/repo.git#ref:subdir``, ``git@host:path``, ``ssh://``, ``git://``.

A query says the same and more: ``?ref=`` (or ``tag=``, ``branch=``), ``subdir=``, ``checksum=`` (or
``commit=``), ``keep-git-dir``, ``submodules``, ``fetch-by-commit``. Rules and words: dfgitutil/git_ref.go.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from minibuild.dockerfile.gotext import quote
from minibuild.errors import DockerfileError, SourceRange
from minibuild.plan.steps import GitItem

_SCP = r"([A-Za-z0-9_-]+@[A-Za-z0-9.-]+:[^?#]*)(?:\?([^#]*))?(?:#(.*))?\Z"
_FLAGS = ("keep-git-dir", "submodules", "fetch-by-commit")
_WORDS = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def parse_git_url(text: str, *, where: SourceRange | None = None, local: bool = False) -> GitItem | None:
    """What `text` names, or None where it is no git URL; raises `DockerfileError` on a bad query.

    With `local` a ``file://`` address is one, too.
    """
    match = re.match(_SCP, text) if "@" in text else None
    if match is not None and "://" not in text.partition("@")[0]:
        remote, query, fragment = match.groups(default="")
    elif "://" not in text:
        return None
    else:
        parts = urlsplit(text)
        known = ("git", "ssh", "http", "https", "file") if local else ("git", "ssh", "http", "https")
        if parts.scheme not in known:
            return None
        if parts.scheme in ("http", "https") and not parts.path.endswith(".git"):
            return None
        remote = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        query, fragment = parts.query, unquote(parts.fragment)
    ref, _, subdir = fragment.partition(":")
    try:
        return _item(remote, ref, inside(subdir), parse_qs(query, keep_blank_values=True))
    except ValueError as error:
        raise DockerfileError(
            str(error),
            where=where,
            cure=f"A git URL's query takes {', '.join(_WORDS)}, {', '.join(_FLAGS)}, each once.",
        ) from None


def inside(subdir: str) -> str:
    """`subdir` as a path below the repository's top, "" for all of it."""
    return posixpath.normpath(posixpath.join("/", subdir)).lstrip("/")


def _item(remote: str, ref: str, subdir: str, query: dict[str, list[str]]) -> GitItem:
    """Raises `ValueError` for what is not in order."""
    words: dict[str, str] = {}
    flags: dict[str, bool] = {}
    for name, values in query.items():
        if len(values) > 1:
            raise ValueError(f"query {quote(name)} has multiple values")
        if name in _FLAGS:
            flags[name] = _boolean(name, values[0])
        elif not values[0]:
            raise ValueError(f"query {quote(name)} has no value")
        elif name not in _WORDS:
            raise ValueError(f"unexpected query {quote(name)}")
        else:
            words[name] = values[0]
    if words.get("mtime", "commit") not in ("checkout", "commit"):
        raise ValueError(f'invalid mtime value: {quote(words["mtime"])} (must be "checkout" or "commit")')
    if "tag" in words and "branch" in words:
        raise ValueError("branch conflicts with tag")
    ref = _same("ref", ref, words.get("ref", ""))
    for name, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name in words:
            ref = _same("ref", ref, prefix + words[name].removeprefix(prefix))
    return GitItem(
        remote,
        ref=ref,
        subdir=inside(_same("subdir", subdir, words.get("subdir", ""))),
        checksum=words.get("checksum") or words.get("commit") or "",
        keep_git_dir=flags.get("keep-git-dir"),
        submodules=flags.get("submodules", True),
        fetch_by_commit=flags.get("fetch-by-commit", False),
    )


def _same(what: str, one: str, other: str) -> str:
    if one and other and one != other:
        raise ValueError(f"{what} conflicts: {quote(one)} vs {quote(other)}")
    return one or other


def _boolean(name: str, text: str) -> bool:
    if text and text not in (*_TRUE, *_FALSE):
        raise ValueError(f"invalid {name} value: {quote(text)}")
    return text not in _FALSE
