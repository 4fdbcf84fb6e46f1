"""The checks that follow a stage instruction by instruction, with the variables known at each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import singledispatch

from minibuild.dockerfile import lintrules as rules
from minibuild.dockerfile.gopath import clean
from minibuild.dockerfile.gotext import quote, split_blanks
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.dockerfile.instruction import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    KeyValue,
    Label,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minibuild.dockerfile.lintrules import Findings, suggestion
from minibuild.dockerfile.mounts import parse_mount
from minibuild.dockerfile.ports import parse_port
from minibuild.dockerfile.words import expand, expand_raw, expand_words
from minibuild.errors import DockerfileError, SourceRange

_SECRET = re.compile(
    "(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_NOT_IN_ENV = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_REMOTE = re.compile(r"(?:https?|git|ssh)://|git@|github\.com/")
_EVERYTHING = frozenset({"*", "**", "**/*"})


class StageState:
    """What a stage has set so far, and what it starts with."""

    __slots__ = ("declared", "env", "shell_set", "used_once", "workdir_set")

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.declared: set[str] = set()
        self.shell_set = self.workdir_set = False
        self.used_once: dict[type[Instruction], SourceRange] = {}

    def derived(self) -> StageState:
        """The state in which a stage FROM this one begins."""
        state = StageState(dict(self.env))
        state.declared = set(self.declared)
        state.shell_set, state.workdir_set = self.shell_set, self.workdir_set
        return state


class _Walk:
    """One stage under way: its state, the file's settings, and the findings under the current comments."""

    __slots__ = ("build_args", "escape", "found", "global_args", "ignore", "node", "state")

    def __init__(
        self,
        state: StageState,
        escape: str,
        global_args: Mapping[str, str],
        build_args: Mapping[str, str],
        ignore: IgnoreFile | None,
        found: Findings,
        node: Instruction,
    ) -> None:
        self.state = state
        self.escape = escape
        self.global_args = global_args
        self.build_args = build_args
        self.ignore = ignore
        self.found = found
        self.node = node

    @property
    def name(self) -> str:
        return split_blanks(self.node.code, 1)[0]

    def word(self, text: str) -> str:
        """`text` expanded; each undefined variable in it is a finding."""
        result = expand(text, self.state.env, escape=self.escape)
        self.undefined(result.unmatched)
        return result.text

    def undefined(self, names: frozenset[str]) -> None:
        for name in sorted(names - self.state.declared - _NOT_IN_ENV):
            hint = suggestion(name, self.state.env, "$")
            self.found.add(rules.UNDEFINED_VAR, self.node.where, name, hint)

    def pairs(self, pairs: tuple[KeyValue, ...]) -> Iterator[tuple[KeyValue, str, str]]:
        """Each pair with its key and value expanded, all under the variables from before."""
        return iter([(pair, self.word(pair.key), self.word(pair.value)) for pair in pairs])

    def secret(self, what: str, key: str) -> None:
        if _SECRET.search(key) and not _NO_SECRET.search(key):
            self.found.add(rules.SECRETS_USED_IN_ARG_OR_ENV, self.node.where, what, quote(key))

    def once(self) -> None:
        """The instruction counts once a stage; an earlier one is the finding, for it is without effect."""
        before = self.state.used_once.get(type(self.node))
        if before is not None:
            self.found.add(rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, before, self.name)
        self.state.used_once[type(self.node)] = self.node.where


def check_stage(
    stage: Stage,
    state: StageState,
    found: Findings,
    *,
    escape: str,
    global_args: Mapping[str, str],
    build_args: Mapping[str, str],
    ignore: IgnoreFile | None,
    until: SourceRange | None = None,
) -> bool:
    """Adds what `stage` gives rise to; False once the instruction at `until` is reached.

    A fault that would stop the build ends it silently.
    """
    for node in stage.instructions:
        walk = _Walk(state, escape, global_args, build_args, ignore, found.under(node.comments), node)
        try:
            _check(node, walk)
        except DockerfileError:
            return node.where != until
        if node.where == until:
            return False
    return True


@singledispatch
def _check(node: Instruction, walk: _Walk) -> None:
    """Instructions without variables and without a rule of their own."""


@_check.register
def _(node: Env, walk: _Walk) -> None:
    for pair, key, value in walk.pairs(node.pairs):
        if pair.legacy:
            walk.found.add(rules.LEGACY_KEY_VALUE_FORMAT, node.where, walk.name)
        walk.secret("ENV", key)
        walk.state.env[key] = value


@_check.register
def _(node: Label, walk: _Walk) -> None:
    for pair, _, _ in walk.pairs(node.pairs):
        if pair.legacy:
            walk.found.add(rules.LEGACY_KEY_VALUE_FORMAT, node.where, walk.name)


@_check.register
def _(node: Arg, walk: _Walk) -> None:
    for name, default in node.args:
        walk.secret("ARG", name)
        value = walk.build_args.get(name)
        if value is None and default is not None:
            value = walk.word(default)
        elif value is None:
            value = walk.global_args.get(name)
        if value is not None and name not in _NOT_IN_ENV:
            walk.state.env[name] = value
        walk.state.declared.add(name)


@_check.register
def _(node: Copy, walk: _Walk) -> None:
    walk.word(node.chown)
    walk.word(node.chmod)
    if node.add:
        walk.word(node.checksum)
    sources = [walk.word(source) for source in node.sources]
    walk.word(node.dest)
    for doc in node.heredocs:
        if doc.expand:
            walk.undefined(expand_raw(doc.content, walk.state.env).unmatched)
    if walk.ignore is not None and not node.from_ and not walk.ignore.has_exceptions:
        for source in sources:
            _check_ignored(source, walk, walk.ignore, "Add" if node.add else "Copy")


def _check_ignored(source: str, walk: _Walk, ignore: IgnoreFile, what: str) -> None:
    if _REMOTE.match(source):
        return
    path = clean(source)
    if path in (".", "/"):
        ignored = path == "." and any(line.text in _EVERYTHING for line in ignore.patterns)
    else:
        ignored = not path.startswith("/") and ignore.ignores(path)
    if ignored:
        walk.found.add(rules.COPY_IGNORED_FILE, walk.node.where, what, quote(path))


@_check.register
def _(node: Run, walk: _Walk) -> None:
    for mount in node.mounts:
        parse_mount(mount, expand=walk.word)


@_check.register
def _(node: Workdir, walk: _Walk) -> None:
    path = walk.word(node.path)
    if not walk.state.workdir_set and not path.startswith("/"):
        walk.found.add(rules.WORKDIR_RELATIVE_PATH, node.where, quote(path))
    walk.state.workdir_set = True


@_check.register
def _(node: User, walk: _Walk) -> None:
    walk.word(node.user)


@_check.register
def _(node: StopSignal, walk: _Walk) -> None:
    walk.word(node.signal)


@_check.register
def _(node: Volume, walk: _Walk) -> None:
    for path in node.paths:
        walk.word(path)


@_check.register
def _(node: Expose, walk: _Walk) -> None:
    words = [word for port in node.ports for word in expand_words(port, walk.state.env, escape=walk.escape)]
    for word in words:
        spec = parse_port(word)
        if spec.protocol != spec.protocol.lower():
            walk.found.add(rules.EXPOSE_PROTO_CASING, node.where, word)
        if spec.ip or spec.host_port:
            walk.found.add(rules.EXPOSE_INVALID_FORMAT, node.where, word)


@_check.register(Cmd)
@_check.register(Entrypoint)
def _(node: Cmd | Entrypoint, walk: _Walk) -> None:
    walk.once()
    if node.command.shell and not walk.state.shell_set:
        walk.found.add(rules.JSON_ARGS_RECOMMENDED, node.where, walk.name)


@_check.register
def _(node: Healthcheck, walk: _Walk) -> None:
    walk.once()


@_check.register
def _(node: Shell, walk: _Walk) -> None:
    walk.state.shell_set = True
