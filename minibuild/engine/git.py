"""Git repositories, for ADD and as build contexts, by the git command."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from minibuild.context.folder import FolderView
from minibuild.credentials import redacted
from minibuild.engine.fetched import Fetched
from minibuild.engine.secrets import secret_value
from minibuild.engine.session import Session
from minibuild.errors import DockerfileError, UsageError
from minibuild.plan.steps import GitItem
from minibuild.values import NamedTuple

_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
# What a checkout holds must not depend on how this user has set up git, nor run anything of his.
_CONFIG = (
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.hooksPath", "/dev/null"),
    ("core.logAllRefUpdates", "false"),
    ("protocol.file.allow", "user"),  # a submodule must not be a folder of this machine
)


def fetch_git(session: Session, item: GitItem) -> Fetched:
    """Check out `item` into the store's snapshots of repositories, once per commit; known by its commit."""
    _check(item)
    git = _Git(session, item)
    found = _resolve(git)
    keep = bool(item.keep_git_dir) and not item.subdir
    name = f"git-2-{found.commit}{'' if item.submodules else '-flat'}"
    if keep:  # which names the address and the ref
        origin = f"{redacted(item.remote)} {found.ref} {found.object}"
        name += f"-{hashlib.sha256(origin.encode()).hexdigest()[:16]}"
    session.lease(name)
    times = session.store.records("commits")
    folder = session.store.snapshots.path(name)
    if folder is None:
        with session.store.snapshots.workspace() as work:
            target = work / "tree"
            made = _check_out(git, found, target, keep)
            times.put(found.commit, str(made).encode())
            folder = session.store.snapshots.commit(target, name)
    when = times.get(found.commit)
    return Fetched(
        identity=f"{name} {item.subdir}",
        tree=FolderView(str(_part(folder, item))),
        commit_time=None if when is None else int(when),
    )


def _check(item: GitItem) -> None:
    """Raise `DockerfileError` for what no repository can have."""
    ref, checksum = item.ref, item.checksum
    problem = ""
    if ref.startswith("-") or item.remote.startswith("-"):
        problem = f"invalid git ref {ref!r}"
    elif checksum and not _HEX.match(checksum):
        problem = f"invalid checksum {checksum} for Git URL, expected hex commit hash"
    elif _COMMIT.match(ref) and not ref.startswith(checksum):
        problem = f"expected checksum to match {checksum}, got {ref}"
    elif item.fetch_by_commit and not _COMMIT.match(checksum) and not _COMMIT.match(ref):
        problem = "fetch-by-commit requires a full commit SHA checksum"
    if problem:
        raise DockerfileError(f"{item.remote}: {problem}", cure="Name a branch, a tag or a whole commit.")


def _part(folder: Path, item: GitItem) -> Path:
    """The folder of the checkout that is asked for; no link leads there."""
    path = folder
    for name in filter(None, item.subdir.split("/")):
        path /= name
        if path.is_symlink() or not path.is_dir():
            raise DockerfileError(
                f"{item.remote} has no folder {item.subdir!r} at {item.ref or 'its default branch'}",
                cure="Name a folder of the repository, not a link or a file.",
            )
    return path


class _Git:
    """The git command, for one repository."""

    def __init__(self, session: Session, item: GitItem) -> None:
        self.item = item
        self._check = session.check
        config = (*_CONFIG, *_credentials(session, item.remote))
        self._environment = {
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
            "GIT_CONFIG_COUNT": str(len(config)),
        }
        for number, (key, value) in enumerate(config):
            self._environment[f"GIT_CONFIG_KEY_{number}"] = key
            self._environment[f"GIT_CONFIG_VALUE_{number}"] = value

    def __call__(self, *args: str, at: Path | None = None) -> str:
        """What git prints; raises `DockerfileError` where it fails."""
        try:
            process = subprocess.Popen(
                ["git", *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environment,
                cwd=at,
                umask=0o022,  # the files' modes must not be this user's affair
            )
        except FileNotFoundError:
            raise UsageError("git is not installed", cure="Install git to use git repositories.") from None
        out, err = self._output(process)
        if process.returncode:
            raise DockerfileError(
                f"cannot fetch {self.item.remote}: {_reason(err)}",
                cure="Check the address and your rights to it; a token goes in --secret id=GIT_AUTH_TOKEN.",
            )
        return out

    def _output(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        while True:
            try:
                return process.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                try:
                    self._check()
                except BaseException:
                    process.kill()
                    process.communicate()
                    raise


def _reason(said: str) -> str:
    """The line that says most of what git says."""
    lines = said.strip().splitlines() or ["git failed"]
    fatal = next((n for n, line in enumerate(lines) if line.startswith("fatal: ")), len(lines) - 1)
    if "Could not read from remote repository" in lines[fatal] and fatal:
        fatal -= 1  # what ssh says
    return lines[fatal].removeprefix("fatal: ")


def _credentials(session: Session, remote: str) -> tuple[tuple[str, str], ...]:
    """The secrets GIT_AUTH_HEADER and GIT_AUTH_TOKEN, for git's environment: nobody sees them there."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https"):
        return ()
    host = parts.netloc.rpartition("@")[2]
    for suffix in dict.fromkeys((f".{host}", f".{parts.hostname}", "")):
        header = secret_value(session.request.secrets, f"GIT_AUTH_HEADER{suffix}")
        if header is not None:
            return _extra_header(parts, host, header.decode().strip())
        token = secret_value(session.request.secrets, f"GIT_AUTH_TOKEN{suffix}")
        if token is not None:
            encoded = base64.b64encode(b"x-access-token:" + token.strip()).decode()
            return _extra_header(parts, host, f"basic {encoded}")
    return ()


def _extra_header(parts: SplitResult, host: str, value: str) -> tuple[tuple[str, str], ...]:
    return ((f"http.{parts.scheme}://{host}/.extraheader", f"Authorization: {value}"),)


class _Found(NamedTuple):
    """A `commit`, its whole name `ref` at the remote ("" for none), and the `object` that this names."""

    commit: str
    ref: str = ""
    object: str = ""


def _resolve(git: _Git) -> _Found:
    """What the item names at its remote: a branch before a tag, and tags are followed to their commit."""
    item = git.item
    if _COMMIT.match(item.ref):
        return _Found(item.ref)
    if item.fetch_by_commit:
        ref = item.ref if item.ref.startswith("refs/") or not item.ref else f"refs/heads/{item.ref}"
        return _Found(item.checksum, ref, item.checksum)
    remote, ref = item.remote, item.ref
    if not ref:
        return _checked(item, _default(git))
    lines = git("ls-remote", "--", remote, ref, f"{ref}^{{}}").splitlines()
    found = {name: sha for sha, _, name in (line.partition("\t") for line in lines)}
    for prefix in ("refs/", "refs/heads/", "refs/tags/"):
        name = prefix + ref.removeprefix(prefix)
        if name in found:
            return _checked(item, _Found(found.get(f"{name}^{{}}", found[name]), name, found[name]))
    raise DockerfileError(
        f"{remote} has no ref {ref!r}",
        cure="Name a branch, a tag or a whole commit; without one it is the default branch.",
    )


def _default(git: _Git) -> _Found:
    """The head of the default branch, or a head that is on none."""
    ref = commit = ""
    for line in git("ls-remote", "--symref", "--", git.item.remote, "HEAD").splitlines():
        value, _, name = line.partition("\t")
        if name == "HEAD" and value.startswith("ref: "):
            ref = value.removeprefix("ref: ")
        elif name == "HEAD":
            commit = value
    if not commit:
        raise DockerfileError(f"{git.item.remote} has no default branch", cure="Name one, as in #main.")
    return _Found(commit, ref, commit)


def _checked(item: GitItem, found: _Found) -> _Found:
    if not item.checksum or found.commit.startswith(item.checksum) or found.object.startswith(item.checksum):
        return found
    raise DockerfileError(
        f"{item.remote} at {found.ref} is commit {found.commit}, want {item.checksum}",
        cure="Pin another commit or ref.",
    )


def _check_out(git: _Git, found: _Found, target: Path, keep: bool) -> int:
    """Fill `target` with the files of the commit; returns when it was made, in seconds.

    Everything gets that time: when it was fetched is nobody's affair.
    """
    git("-c", "init.defaultBranch=master", "init", "--quiet", "--template=", str(target))
    git("remote", "add", "origin", git.item.remote, at=target)
    _fetch(git, found, target)
    git("checkout", "--quiet", "--detach", "FETCH_HEAD", at=target)
    made = int(git("show", "--no-patch", "--format=%ct", "HEAD", at=target))
    if git.item.submodules and (target / ".gitmodules").is_file():
        git("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", at=target)
    if keep:
        _tidy(git, target)
    else:
        _remove_git_folders(target)
    for folder, names, files in os.walk(target):
        for name in (*names, *files):
            os.utime(os.path.join(folder, name), (made, made), follow_symlinks=False)
    os.utime(target, (made, made))
    return made


def _fetch(git: _Git, found: _Found, target: Path) -> None:
    """Fetch the commit; a ref that has moved since it was looked up does not count."""
    by_ref = found.ref and not git.item.fetch_by_commit
    what = f"{found.ref}:{found.ref}" if by_ref else found.commit
    _get(git, what, target)
    if by_ref and git("rev-parse", "FETCH_HEAD", at=target).strip() != found.object:
        _get(git, found.object, target)
    if found.ref and not by_ref:
        git("update-ref", found.ref, found.commit, at=target)


def _get(git: _Git, what: str, target: Path) -> None:
    """Fetch `what` alone, or with its history from a server of plain files, which can do no less."""
    fetch = ("fetch", "--quiet", "--no-tags", "--update-head-ok")
    try:
        git(*fetch, "--depth=1", "origin", what, at=target)
    except DockerfileError as error:
        if "does not support shallow" not in error.message:
            raise
        git(*fetch, "origin", what, at=target)


def _tidy(git: _Git, target: Path) -> None:
    """Leave nothing in the git folders that tells of this fetch: no log, no times of files, no password."""
    read = "git read-tree HEAD"  # an index without what lstat says of the files
    git("submodule", "--quiet", "foreach", "--recursive", read, at=target)
    git("read-tree", "HEAD", at=target)
    for folder, names, files in os.walk(target / ".git"):
        for name in ("FETCH_HEAD", "ORIG_HEAD"):
            if name in files:
                os.unlink(os.path.join(folder, name))
        if "config" in files:  # a submodule's address may follow from that of the repository
            config = Path(folder, "config")
            config.write_bytes(os.fsencode(redacted(os.fsdecode(config.read_bytes()))))
        if "logs" in names:
            names.remove("logs")
            shutil.rmtree(os.path.join(folder, "logs"))


def _remove_git_folders(target: Path) -> None:
    for folder, names, files in os.walk(target):
        if ".git" in names:
            names.remove(".git")
            shutil.rmtree(Path(folder) / ".git")
        if ".git" in files:
            os.unlink(os.path.join(folder, ".git"))
