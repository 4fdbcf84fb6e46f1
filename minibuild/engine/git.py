"""Git repositories, for ADD and as build contexts, by the git command."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from minibuild.context.folder import FolderView
from minibuild.engine.fetched import Fetched
from minibuild.engine.secrets import secret_value
from minibuild.engine.session import Session
from minibuild.errors import DockerfileError, UsageError
from minibuild.plan.steps import GitItem


def fetch_git(session: Session, item: GitItem) -> Fetched:
    """Check out `item` into the store's snapshots of repositories, once per commit; known by its commit."""
    ref = item.ref or "HEAD"
    if ref.startswith("-") or item.remote.startswith("-"):
        raise DockerfileError(f"{item.remote} at {ref!r} is no ref of git's", cure="Name a branch or a tag.")
    git = _Git(session, item)
    commit = _resolve(git, ref)
    if item.checksum and not commit.startswith(item.checksum):
        raise DockerfileError(
            f"{item.remote} at {ref} is commit {commit}, want {item.checksum}",
            cure="Pin another commit or ref.",
        )
    name = f"git-{commit}{'-git' if item.keep_git_dir else ''}{'' if item.submodules else '-flat'}"
    session.lease(name)
    times = session.store.records("commits")
    folder = session.store.snapshots.path(name)
    if folder is None:
        with session.store.snapshots.workspace() as work:
            target = work / "tree"
            made = _check_out(git, ref, commit, target)
            times.put(commit, made.encode())
            folder = session.store.snapshots.commit(target, name)
    view = FolderView(str(folder))
    # A link in the repository must not lead out of it.
    root = Path(os.fsdecode(view.path(view.resolve(os.fsencode(item.subdir)))))
    if not root.is_dir():
        raise DockerfileError(f"{item.remote} has no folder {item.subdir!r} at {ref}")
    when = times.get(commit)
    return Fetched(
        identity=f"{name} {item.subdir}",
        tree=FolderView(str(root)),
        commit_time=None if when is None else int(when),
    )


class _Git:
    """The git command, for one repository."""

    def __init__(self, session: Session, item: GitItem) -> None:
        self.item = item
        self._environment = {
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            **_credentials(session, item.remote),
        }

    def __call__(self, *args: str) -> str:
        try:
            done = subprocess.run(
                ["git", *args],
                capture_output=True,
                text=True,
                env=self._environment,
                check=False,
                umask=0o022,  # the files' modes must not be this user's affair
            )
        except FileNotFoundError:
            raise UsageError("git is not installed", cure="Install git to use git repositories.") from None
        if done.returncode:
            reason = (done.stderr.strip() or "git failed").splitlines()[-1]
            raise DockerfileError(
                f"cannot fetch {self.item.remote}: {reason}",
                cure="Check the address and your rights to it; a token goes in --secret id=GIT_AUTH_TOKEN.",
            )
        return done.stdout


def _credentials(session: Session, remote: str) -> dict[str, str]:
    """The secrets GIT_AUTH_HEADER and GIT_AUTH_TOKEN, for git's environment: nobody sees them there."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https"):
        return {}
    for name in (f"GIT_AUTH_HEADER.{parts.hostname}", "GIT_AUTH_HEADER"):
        header = secret_value(session.request.secrets, name)
        if header is not None:
            return _extra_header(parts, header.decode().strip())
    for name in (f"GIT_AUTH_TOKEN.{parts.hostname}", "GIT_AUTH_TOKEN"):
        token = secret_value(session.request.secrets, name)
        if token is not None:
            encoded = base64.b64encode(b"x-access-token:" + token.strip()).decode()
            return _extra_header(parts, f"basic {encoded}")
    return {}


def _extra_header(parts: SplitResult, value: str) -> dict[str, str]:
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"Authorization: {value}",
    }


def _resolve(git: _Git, ref: str) -> str:
    """The commit that `ref` names at the remote; tags are followed to their commit."""
    if len(ref) in (40, 64) and all(character in "0123456789abcdef" for character in ref):
        return ref
    remote = git.item.remote
    lines = git("ls-remote", remote, ref, f"{ref}^{{}}").splitlines()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
        if f"{name}^{{}}" in found:
            return found[f"{name}^{{}}"]
        if name in found:
            return found[name]
    if found:
        return next(iter(found.values()))
    raise DockerfileError(f"{remote} has no ref {ref!r}", cure="Name a branch, a tag or a whole commit.")


def _check_out(git: _Git, ref: str, commit: str, target: Path) -> str:
    """Fill `target` with the files of the commit; returns when it was made, in seconds."""
    item = git.item
    git("init", "--quiet", str(target))
    where = ("-C", str(target))
    git(*where, "remote", "add", "origin", item.remote)
    git(*where, "fetch", "--quiet", "--depth=1", "origin", commit if ref == commit else ref)
    git(*where, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    made = git(*where, "show", "--no-patch", "--format=%ct", "HEAD").strip()
    if item.submodules:
        git(*where, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    if not item.keep_git_dir:
        for folder, names, files in os.walk(target):
            if ".git" in names:
                names.remove(".git")
                _remove(Path(folder) / ".git")
            if ".git" in files:
                os.unlink(os.path.join(folder, ".git"))
    return made


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
