"""ADD of a git repository, by the git command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from minibuild.context.folder import FolderView
from minibuild.engine.fetched import Fetched
from minibuild.engine.session import Session
from minibuild.errors import DockerfileError, UsageError
from minibuild.plan.steps import GitItem


def fetch_git(session: Session, item: GitItem) -> Fetched:
    """Check out `item` into the store's snapshots of repositories, once per commit; known by its commit."""
    ref = item.ref or "HEAD"
    commit = _resolve(item, ref)
    if item.checksum and not commit.startswith(item.checksum):
        raise DockerfileError(
            f"{item.remote} at {ref} is commit {commit}, want {item.checksum}",
            cure="Pin another commit or ref.",
        )
    name = f"git-{commit}{'-git' if item.keep_git_dir else ''}{'' if item.submodules else '-flat'}"
    session.lease(name)
    folder = session.store.snapshots.path(name)
    if folder is None:
        with session.store.snapshots.workspace() as work:
            target = work / "tree"
            _check_out(item, ref, commit, target)
            folder = session.store.snapshots.commit(target, name)
    root = folder / item.subdir if item.subdir else folder
    if not root.is_dir():
        raise DockerfileError(f"{item.remote} has no folder {item.subdir!r} at {ref}")
    return Fetched(identity=f"{name} {item.subdir}", tree=FolderView(str(root)))


def _resolve(item: GitItem, ref: str) -> str:
    """The commit that `ref` names at the remote; tags are followed to their commit."""
    if len(ref) in (40, 64) and all(character in "0123456789abcdef" for character in ref):
        return ref
    lines = _git("ls-remote", item.remote, ref, f"{ref}^{{}}", what=item).splitlines()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
        if f"{name}^{{}}" in found:
            return found[f"{name}^{{}}"]
        if name in found:
            return found[name]
    if found:
        return next(iter(found.values()))
    raise DockerfileError(f"{item.remote} has no ref {ref!r}", cure="Name a branch, a tag or a whole commit.")


def _check_out(item: GitItem, ref: str, commit: str, target: Path) -> None:
    _git("init", "--quiet", str(target), what=item)
    where = ("-C", str(target))
    _git(*where, "remote", "add", "origin", item.remote, what=item)
    _git(*where, "fetch", "--quiet", "--depth=1", "origin", commit if ref == commit else ref, what=item)
    _git(*where, "checkout", "--quiet", "--detach", "FETCH_HEAD", what=item)
    if item.submodules:
        _git(*where, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", what=item)
    if not item.keep_git_dir:
        for folder, names, files in os.walk(target):
            if ".git" in names:
                names.remove(".git")
                _remove(Path(folder) / ".git")
            if ".git" in files:
                os.unlink(os.path.join(folder, ".git"))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _git(*args: str, what: GitItem) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    try:
        done = subprocess.run(["git", *args], capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError:
        raise UsageError("git is not installed", cure="Install git to use git repositories.") from None
    if done.returncode:
        raise DockerfileError(
            f"cannot fetch {what.remote}: {(done.stderr.strip() or 'git failed').splitlines()[-1]}",
            cure="Check the address and your rights to it.",
        )
    return done.stdout
