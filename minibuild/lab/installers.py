"""Commands whose inputs are known: what installs dependencies from manifests, or packages of the system.

Conservative on purpose. A command counts only where every word of it is known; anything that could read other
files (an editable install, a path, a hook, a variable, a pipe) makes it unknown.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable
from typing import Any

from minibuild.values import NamedTuple

ReadFile = Callable[[str], bytes | None]
"""Gives a file of the context by its path; None where it is not there, or is ignored."""


class Install(NamedTuple):
    """What one command reads (`manifests`, in the order of a COPY) and the folders it fills."""

    manifests: tuple[str, ...]
    fills: tuple[str, ...] = ()


_UNSAFE = re.compile(r"[|<>;`$*?(){}\\\n&]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:=~_@\[\],<>!-]*\Z")
_PIP_ALONE = frozenset((
    "--no-cache-dir", "--upgrade", "-U", "--no-deps", "-q", "--quiet", "--disable-pip-version-check",
    "--no-input", "--user", "-v", "--prefer-binary", "--require-hashes", "--break-system-packages",
    "--no-compile", "--compile",
))  # fmt: skip
_LOCAL = ("-e", "--editable", "-f", "--find-links", ".", "/")
_ARCHIVE = re.compile(r"[\w.-]+/|\S+\.(whl|zip|tar\.gz)\Z")
_PIP_VALUES = frozenset((
    "--index-url", "-i", "--extra-index-url", "--trusted-host", "--timeout", "--retries",
))  # fmt: skip
_NPM_SAFE = re.compile(
    r"--(omit=\w+|production|ignore-scripts|no-audit|no-fund|prefer-offline|loglevel=\w+)\Z"
)
_HOOKS = frozenset((
    "preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare",
))  # fmt: skip


def dependency_install(command: str, read: ReadFile) -> Install | None:
    """What a shell command installs from manifests; None where that is not certain."""
    found: list[Install] = []
    for part in _parts(command):
        install = next((one for rule in _RULES if (one := rule(part, read)) is not None), None)
        if install is None:
            return None
        found.append(install)
    manifests = tuple(dict.fromkeys(path for one in found for path in one.manifests))
    fills = tuple(dict.fromkeys(path for one in found for path in one.fills))
    return Install(manifests, fills) if manifests else None


def system_install(command: str) -> bool:
    """Whether a shell command does nothing but install packages of the distribution by their names."""
    text = command.replace("rm -rf /var/lib/apt/lists/*", "apt-get clean")
    parts = _parts(text)
    return bool(parts) and any("install" in p or "add" in p for p in parts) and all(map(_is_system, parts))


def _parts(command: str) -> list[list[str]]:
    """The words of the commands joined by ``&&``; one empty command where there is anything else."""
    joined = command.replace("\\\n", " ")
    parts: list[list[str]] = []
    for text in joined.split("&&"):
        if _UNSAFE.search(text):
            return [[]]
        try:
            parts.append(shlex.split(text))
        except ValueError:
            return [[]]
    return parts


def _is_system(words: list[str]) -> bool:
    match words:
        case [("apt-get" | "apt"), *rest]:
            names = [word for word in rest if not word.startswith("-")]
            flags = {word for word in rest if word.startswith("-")}
            known = flags <= {"-y", "--yes", "-q", "-qq", "-yq", "-yqq", "--no-install-recommends", "--quiet"}
            verbs = names[:1] in (["update"], ["clean"], ["install"], ["autoremove"])
            return known and verbs and all(map(_NAME.match, names))
        case ["apk", "add", *rest] | ["apk", "--no-cache", "add", *rest]:
            names = [word for word in rest if not word.startswith("-")]
            flags = {word for word in rest if word.startswith("-")}
            return flags <= {"--no-cache", "--update", "-q", "-U"} and all(map(_NAME.match, names))
        case [("dnf" | "yum" | "microdnf"), *rest]:
            names = [word for word in rest if not word.startswith("-")]
            flags = {word for word in rest if word.startswith("-")}
            verbs = names[:1] == ["install"] or names == ["clean", "all"]
            return flags <= {"-y", "-q", "--nodocs"} and verbs and all(map(_NAME.match, names))
    return False


def _pip(words: list[str], read: ReadFile) -> Install | None:
    match words:
        case [("pip" | "pip3"), "install", *rest]:
            pass
        case [("python" | "python3"), "-m", "pip", "install", *rest]:
            pass
        case _:
            return None
    files: list[str] = []
    while rest:
        word = rest.pop(0)
        if word in ("-r", "--requirement", "-c", "--constraint") and rest:
            files.append(rest.pop(0))
        elif word in _PIP_VALUES and rest:
            rest.pop(0)
        elif _ARCHIVE.match(word) or not (
            word in _PIP_ALONE or word.startswith("--root-user-action=") or _NAME.match(word)
        ):
            return None
    found: list[str] = []
    return Install(tuple(found)) if all(_requirements(name, read, found) for name in files) else None


def _requirements(name: str, read: ReadFile, found: list[str]) -> bool:
    """Whether a requirements file, and those it names, name no local files; adds them to `found`."""
    path = posixpath.normpath(name)
    if path in found:
        return True
    data = None if path.startswith(("/", "..")) else read(path)
    if data is None:
        return False
    found.append(path)
    for line in data.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        text = line.split(" #")[0].strip()
        nested = re.match(r"(?:-r|--requirement|-c|--constraint)[ =]*(\S+)\Z", text)
        if nested is not None:
            if not _requirements(posixpath.join(posixpath.dirname(path), nested[1]), read, found):
                return False
        elif text.startswith(_LOCAL) or "file:" in text or _ARCHIVE.match(text):
            return False
    return True


def _npm(words: list[str], read: ReadFile) -> Install | None:
    if words[:2] != ["npm", "ci"] or not all(map(_NPM_SAFE.match, words[2:])):
        return None
    lock = next((one for one in ("package-lock.json", "npm-shrinkwrap.json") if read(one) is not None), None)
    return _node(lock, (".npmrc",), read, scripts="--ignore-scripts" in words)


def _yarn(words: list[str], read: ReadFile) -> Install | None:
    if words[:1] != ["yarn"] or not set(words[1:]) & {"--frozen-lockfile", "--immutable"}:
        return None
    known = {"install", "--frozen-lockfile", "--immutable", "--production", "--ignore-scripts"}
    if set(words[1:]) - known or b"yarnPath" in (read(".yarnrc.yml") or b""):
        return None
    return _node("yarn.lock", (".npmrc", ".yarnrc", ".yarnrc.yml"), read, scripts="--ignore-scripts" in words)


def _pnpm(words: list[str], read: ReadFile) -> Install | None:
    if words[:1] != ["pnpm"] or words[1:2] not in (["install"], ["i"]) or "--frozen-lockfile" not in words:
        return None
    if set(words[2:]) - {"--frozen-lockfile", "--prod", "--ignore-scripts"} or read("pnpm-workspace.yaml"):
        return None
    return _node("pnpm-lock.yaml", (".npmrc",), read, scripts="--ignore-scripts" in words)


def _node(lock: str | None, more: tuple[str, ...], read: ReadFile, *, scripts: bool) -> Install | None:
    """`scripts` says that hooks of the package are not run."""
    package = read("package.json")
    if lock is None or read(lock) is None or package is None:
        return None
    try:
        document: dict[str, Any] = json.loads(package)
        hooks = set(document.get("scripts") or {}) & _HOOKS
        tables = [document.get(key) or {} for key in document if key.lower().endswith("dependencies")]
        versions = [str(v) for one in tables if isinstance(one, dict) for v in one.values()]
    except (ValueError, TypeError, AttributeError):
        return None
    local = any(version.startswith(("file:", "link:", ".", "/", "portal:", "patch:")) for version in versions)
    if (hooks and not scripts) or local or "workspaces" in document or b"patchedDependencies" in package:
        return None
    present = tuple(path for path in more if read(path) is not None)
    return Install(("package.json", lock, *present), ("node_modules",))


def _go(words: list[str], read: ReadFile) -> Install | None:
    module = read("go.mod")
    if words not in (["go", "mod", "download"], ["go", "mod", "download", "-x"]) or module is None:
        return None
    if re.search(rb"=>\s*\.{0,2}/", module) or read("go.work") is not None:
        return None
    return Install(("go.mod", *(["go.sum"] if read("go.sum") is not None else [])))


def _bundle(words: list[str], read: ReadFile) -> Install | None:
    gemfile = read("Gemfile")
    if words[:2] != ["bundle", "install"] or gemfile is None or read("Gemfile.lock") is None:
        return None
    if not all(re.match(r"--(jobs|retry)[= ]?\d*\Z|-j\d*\Z|\d+\Z|--quiet\Z", word) for word in words[2:]):
        return None
    if re.search(rb"path|gemspec|eval_gemfile|require_relative|File\.|git:.*\.\.", gemfile):
        return None
    return Install(("Gemfile", "Gemfile.lock"), ("vendor", ".bundle"))


def _poetry(words: list[str], read: ReadFile) -> Install | None:
    return _project(words, ["poetry", "install"], "--no-root", "poetry.lock", read)


def _uv(words: list[str], read: ReadFile) -> Install | None:
    return _project(words, ["uv", "sync"], "--no-install-project", "uv.lock", read)


def _project(words: list[str], start: list[str], needed: str, lock: str, read: ReadFile) -> Install | None:
    project = read("pyproject.toml")
    if words[:2] != start or needed not in words or project is None or read(lock) is None:
        return None
    known = {needed, "--no-interaction", "--no-ansi", "--frozen", "--locked", "--no-dev", "--only=main"}
    if set(words[2:]) - known or re.search(rb"\b(path|workspace|editable)\s*=", project):
        return None
    return Install(("pyproject.toml", lock), (".venv",))


_RULES: tuple[Callable[[list[str], ReadFile], Install | None], ...] = (
    _pip, _npm, _yarn, _pnpm, _go, _bundle, _poetry, _uv,
)  # fmt: skip
