"""Git URLs as BuildKit reads them: ``https://host/repo.git#ref:subdir``, ``git@host:path``, ``ssh://``, ``git://``."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from minibuild.errors import DockerfileError, SourceRange
from minibuild.plan.steps import GitItem

_SCP = re.compile(r"[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:(?!//)\S+\Z")
_QUERY = frozenset(("ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"))


def parse_git_url(text: str, *, where: SourceRange | None = None) -> GitItem | None:
    """What `text` names, or None where it is no git URL; raises `DockerfileError` on a bad query."""
    address, _, fragment = text.partition("#")
    if _SCP.match(address):
        return _with_fragment(GitItem(address), fragment)
    parts = urlsplit(address)
    if parts.scheme not in ("git", "ssh", "http", "https"):
        return None
    if parts.scheme in ("http", "https") and not parts.path.endswith(".git"):
        return None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - _QUERY)
    if unknown:
        raise DockerfileError(
            f"unexpected query {unknown[0]!r} in git URL {text!r}",
            where=where,
            cure="Known are " + ", ".join(sorted(_QUERY)) + ".",
        )
    refs = [options[name] for name in ("ref", "tag", "branch") if options.get(name)]
    if len(refs) > 1:
        raise DockerfileError("ref, tag and branch of a git URL exclude each other", where=where)
    if options and fragment:
        raise DockerfileError("a git URL has a query or a fragment, not both", where=where)
    remote = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    ref = refs[0] if refs else ""
    if options.get("tag"):
        ref = f"refs/tags/{ref}"
    elif options.get("branch"):
        ref = f"refs/heads/{ref}"
    return _with_fragment(
        GitItem(
            remote,
            ref=ref,
            subdir=options.get("subdir", "").strip("/"),
            checksum=options.get("checksum") or options.get("commit") or "",
            keep_git_dir=options.get("keep-git-dir", "false") in ("", "1", "true"),
            submodules=options.get("submodules", "true") in ("", "1", "true"),
        ),
        fragment,
    )


def _with_fragment(item: GitItem, fragment: str) -> GitItem:
    if not fragment:
        return item
    ref, _, subdir = fragment.partition(":")
    return GitItem(item.remote, ref=ref, subdir=subdir.strip("/"))
