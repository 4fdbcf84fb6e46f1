"""Changes to a Dockerfile or an ignore file that leave what the steps do as it is, by a rule that is said.

Only text is looked at here; what a change is worth is for a replay to say. Nothing is moved across an
instruction that it could depend on, or that could depend on it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.dockerfile.parse import parse
from minibuild.lab.installers import dependency_install, system_install
from minibuild.lab.view import Snapshot
from minibuild.values import NamedTuple

SPLIT_RULE = (
    "the command is an installer that reads nothing but these manifests, which name no local files and run "
    "no hooks; what it fills is not in the context; nothing but metadata stands between it and the COPY"
)
MOVE_RULE = (
    "the command only installs packages of the distribution by name, and moves across nothing but copies to "
    "folders that are none of the system's, with owners by number"
)
SWAP_RULE = (
    "the copies go to places none of which is inside another, give the same owner and mode, and nothing but "
    "metadata stands between them (links in the base from one place to the other would break the rule)"
)
IGNORE_RULE = (
    "a suggestion: nothing that the Dockerfile or the project's manifests say names it, but the image will "
    "lack it"
)


# What gives commands another meaning than their words have, or points installers at other files.
_SETTINGS = re.compile(r"(?im)^\s*SHELL\b|PIP_CONSTRAINT|PIP_REQUIREMENT|PIP_FIND_LINKS|PIP_EDITABLE")


class Proposal(NamedTuple):
    """A change: the whole new Dockerfile, or the whole new ignore file; the other is as it was."""

    kind: str
    title: str
    rule: str
    dockerfile: str
    ignore: str


_NEUTRAL = (ast.Label, ast.Expose, ast.Cmd, ast.Entrypoint, ast.StopSignal, ast.Healthcheck, ast.Maintainer)
_SYSTEM = frozenset((
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "proc", "root", "run",
    "sbin", "sys", "tmp", "usr", "var",
))  # fmt: skip


class _Text:
    """A Dockerfile's lines, edited by whole instructions with the comments directly above them."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()

    def span(self, node: ast.Instruction) -> tuple[int, int]:
        """First line and the line behind the last, from 0."""
        first = node.where.first - 1
        while first and self.lines[first - 1].lstrip().startswith("#") and first > 1:
            first -= 1
        return first, node.where.last

    def moved(self, node: ast.Instruction, before: ast.Instruction, extra: Sequence[str] = ()) -> str:
        """`node` put in front of `before`, which stands above it, with `extra` lines in front of both."""
        first, end = self.span(node)
        at = self.span(before)[0]
        block = self.lines[first:end]
        lines = [*self.lines[:at], *extra, *block, *self.lines[at:first], *self.lines[end:]]
        return "\n".join(lines) + "\n"


def dockerfile_proposals(
    text: str, ignore: str, snapshot: Snapshot, changes: Mapping[str, int]
) -> Iterator[Proposal]:
    """Splits, moves and swaps. `changes` is how often an instruction's own files changed."""
    dockerfile = parse(text)
    plain_shell = _SETTINGS.search(text) is None
    rules = IgnoreFile.parse(ignore)
    for stage in dockerfile.stages:
        nodes = stage.instructions
        folders = _folders(nodes)
        for number, node in enumerate(nodes):
            if plain_shell and isinstance(node, ast.Run) and _is_plain(node):
                yield from _split(text, ignore, nodes, folders, number, snapshot, rules)
                yield from _lift(text, ignore, nodes, folders, number)
        yield from _swaps(text, ignore, nodes, folders, snapshot, changes)


def _folders(nodes: Sequence[ast.Instruction]) -> list[str | None]:
    """The working directory at each instruction; None where it is not written in full here."""
    found: list[str | None] = []
    current: str | None = None
    for node in nodes:
        if isinstance(node, ast.Workdir):
            if node.path.startswith("/"):
                current = posixpath.normpath(node.path)
            elif current is not None:
                current = posixpath.join(current, node.path)
            if "$" in node.path:
                current = None
        found.append(current)
    return found


def _is_plain(node: ast.Run) -> bool:
    """A shell command with no here-document that sees nothing of the context but through the filesystem."""
    mounts = all(re.search(r"(^|,)type=(cache|secret|ssh|tmpfs)(,|$)", mount) for mount in node.mounts)
    return node.command.shell and not node.command.heredocs and mounts and not node.security


def _split(
    text: str,
    ignore: str,
    nodes: Sequence[ast.Instruction],
    folders: Sequence[str | None],
    number: int,
    snapshot: Snapshot,
    rules: IgnoreFile,
) -> Iterator[Proposal]:
    """``COPY . .`` before an installer: its manifests first, then the installer, then the rest."""
    at = number - 1
    while at >= 0 and isinstance(nodes[at], _NEUTRAL):
        at -= 1
    run, copy = nodes[number], nodes[at] if at >= 0 else None
    if not isinstance(run, ast.Run) or not isinstance(copy, ast.Copy) or not _copies_all(copy, folders[at]):
        return

    def read(path: str) -> bytes | None:
        return None if rules.ignores(path) else snapshot.file(path)

    install = dependency_install(" ".join(run.command.args), read)
    if install is None or any(snapshot.find(path.encode()) is not None for path in install.fills):
        return
    by_folder: dict[str, list[str]] = {}
    for path in install.manifests:
        by_folder.setdefault(posixpath.dirname(path), []).append(path)
    lines = [
        f"COPY {' '.join([*_flags(copy), *paths, f'{folder}/' if folder else './'])}"
        for folder, paths in by_folder.items()
    ]
    title = f"copy {', '.join(install.manifests)} first, then {_short(run)}, then the rest"
    yield Proposal("split", title, SPLIT_RULE, _Text(text).moved(run, copy, lines), ignore)


def _copies_all(node: ast.Copy, folder: str | None) -> bool:
    """``COPY . .`` to the working directory."""
    whole = node.sources in ((".",), ("./",)) and not (node.from_ or node.heredocs or node.exclude)
    here = node.dest in (".", "./") or (folder is not None and posixpath.normpath(node.dest) == folder)
    return whole and here and not (node.add or node.chmod or node.parents) and "$" not in node.chown


def _flags(node: ast.Copy) -> list[str]:
    return [f"--chown={node.chown}"] * bool(node.chown) + ["--link"] * node.link


def _lift(
    text: str, ignore: str, nodes: Sequence[ast.Instruction], folders: Sequence[str | None], number: int
) -> Iterator[Proposal]:
    """An installation of system packages moves above copies that have nothing to do with it."""
    run = nodes[number]
    assert isinstance(run, ast.Run)
    if not system_install(" ".join(run.command.args)):
        return
    at, top = number - 1, None
    while at >= 0:
        node = nodes[at]
        if isinstance(node, ast.Copy):
            if not _is_apart(node, folders[at]):
                break
            top = node
        elif not isinstance(node, _NEUTRAL):
            break
        at -= 1
    if top is not None:
        title = f"{_short(run)} before {_short(top)}"
        yield Proposal("move", title, MOVE_RULE, _Text(text).moved(run, top), ignore)


def _is_apart(node: ast.Copy, folder: str | None) -> bool:
    dest = _destination(node, folder)
    numbers = all(part.isdigit() for part in node.chown.split(":")) if node.chown else True
    return dest is not None and dest.split("/")[1] not in _SYSTEM | {""} and numbers


def _destination(node: ast.Copy, folder: str | None) -> str | None:
    """Where a copy goes, absolute and without a last slash; None where that is not certain."""
    if "$" in node.dest or (not node.dest.startswith("/") and folder is None):
        return None
    path = posixpath.normpath(posixpath.join(folder or "/", node.dest))
    return re.sub(r"^/(bin|sbin|lib|lib32|lib64)(?=/|$)", r"/usr/\1", path)


def _swaps(
    text: str,
    ignore: str,
    nodes: Sequence[ast.Instruction],
    folders: Sequence[str | None],
    snapshot: Snapshot,
    changes: Mapping[str, int],
) -> Iterator[Proposal]:
    """Of two copies in a row the one whose files change less often goes first."""
    places = [n for n, node in enumerate(nodes) if not isinstance(node, _NEUTRAL)]
    for above, below in pairwise(places):
        one, other = nodes[above], nodes[below]
        if not isinstance(one, ast.Copy) or not isinstance(other, ast.Copy):
            continue
        if changes.get(one.code, 0) <= changes.get(other.code, 0):
            continue
        mine, theirs = (
            _footprint(node, folders[at], snapshot) for node, at in ((one, above), (other, below))
        )
        same = (one.chown, one.chmod) == (other.chown, other.chmod)
        if mine and theirs and same and not one.add and not other.add and _disjoint(mine, theirs):
            title = f"{_short(other)} before {_short(one)}"
            yield Proposal("swap", title, SWAP_RULE, _Text(text).moved(other, one), ignore)


def _footprint(node: ast.Copy, folder: str | None, snapshot: Snapshot) -> list[str]:
    """The paths that a copy may write to or below; [] where that is not certain."""
    dest = _destination(node, folder)
    if dest is None or node.heredocs or node.parents or not node.sources:
        return []
    into = node.dest.endswith("/") or node.dest == "." or len(node.sources) > 1
    found: list[str] = []
    for source in node.sources:
        if "$" in source:
            return []
        known = None if node.from_ else snapshot.find(posixpath.normpath(source).lstrip("/").encode())
        if into and known is not None and known.mode.startswith(b"100"):
            found.append(posixpath.join(dest, posixpath.basename(source)))
        else:
            found.append(dest)
    return found


def _disjoint(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    return not any(
        a == b or a.startswith(b.rstrip("/") + "/") or b.startswith(a.rstrip("/") + "/")
        for a in mine
        for b in theirs
    )


def _short(node: ast.Instruction) -> str:
    text = " ".join(node.code.split())
    return text if len(text) <= 60 else text[:59] + "…"


_LEFT_OUT = (
    "docs", "doc", "tests", "test", "spec", "examples", "benchmarks", ".github", ".gitlab", ".circleci",
    ".vscode", ".idea", ".gitignore", ".gitattributes", ".editorconfig", ".pre-commit-config.yaml",
    ".gitlab-ci.yml", ".travis.yml", "README", "README.md", "README.rst", "README.txt", "CHANGELOG.md",
    "CHANGELOG", "CHANGES.md", "CHANGES.rst", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md",
    "Dockerfile", ".dockerignore", "docker-compose.yml", "compose.yaml", "compose.yml",
)  # fmt: skip
_MANIFESTS = (
    "pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in", "package.json", "Makefile", "makefile",
    "tox.ini", "CMakeLists.txt", "Cargo.toml", "build.gradle", "build.gradle.kts", "pom.xml",
    "meson.build", "build.rs", "mkdocs.yml", "tsconfig.json", "composer.json", "Gemfile",
)  # fmt: skip
_TESTS = re.compile(
    r"\b(pytest|tox|nox|unittest|(npm|yarn|pnpm|make|cargo|go|mvn|gradlew?) (run )?(test|check|vet))"
)


def ignorable(
    text: str, ignore: str, snapshot: Snapshot, changed: Sequence[str], *, git_folder: bool
) -> list[str]:
    """Names for the ignore file. `changed` are those in the context's root that history changed."""
    rules = IgnoreFile.parse(ignore)
    mentioned = text + "\n".join(
        (snapshot.file(name) or b"").decode("utf-8", "replace") for name in _MANIFESTS
    )
    names = [*([".git"] if git_folder else []), *(name for name in _LEFT_OUT if name in changed)]
    return [
        name
        for name in names
        if not rules.ignores(name)
        and (name == ".git" or not _is_named(name, mentioned))
        and not (name in ("tests", "test", "spec") and _TESTS.search(text))
    ]


def ignore_proposal(text: str, ignore: str, names: Sequence[str]) -> Proposal:
    """Lines for `names` at the end of the ignore file."""
    start = ignore if not ignore or ignore.endswith("\n") else ignore + "\n"
    lines = "".join(f"{name}\n" for name in names)
    return Proposal(
        "ignore", f"leave {', '.join(names)} out of the context", IGNORE_RULE, text, start + lines
    )


def _is_named(name: str, text: str) -> bool:
    """Whether `text` has the name as a word of its own."""
    if name in ("Dockerfile", ".dockerignore"):
        return False
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None
