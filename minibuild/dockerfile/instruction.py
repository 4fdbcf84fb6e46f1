"""One frozen class for each instruction, holding the text as written: nothing here is expanded yet.

Field names follow BuildKit's instruction package, so that the two can be read side by side.
"""

from __future__ import annotations

from minibuild.errors import SourceRange
from minibuild.values import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`code` is the logical line as written (continuations joined), `where` its lines in the file.

    `comments` are the comment lines directly above, without the ``#``.
    """

    code: str
    where: SourceRange
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """`legacy` marks the form without ``=`` (``ENV key value``)."""

    key: str
    value: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document. `expand` is false where the delimiter was quoted; `chomp` marks ``<<-``.

    `content` is as written, line ends included, except in COPY and ADD, where `chomp` is already done.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`args` is the JSON array of the exec form, or one string for the shell form (`shell` is true).

    `heredocs` are the bodies that a shell form refers to, in order.
    """

    args: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """`base` as written, `name` lower-cased (empty where there is no AS), `platform` as written."""

    base: str
    name: str = ""
    platform: str = ""
    name_as_written: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """Pairs of name and default; the default is None where none is written."""

    args: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`mounts` are the values of the ``--mount`` flags as written; they are read after expansion."""

    command: CommandLine
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY and, with `add`, ADD. `heredocs` are sources written in place, copied after `sources`."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    add: bool = False
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """`test` is ``("NONE",)``, ``("CMD", ...)`` or ``("CMD-SHELL", line)``.

    Durations are in nanoseconds, 0 where not given.
    """

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """`expression` is the trigger as written; it is parsed for real where it fires."""

    expression: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it; `index` counts from 0. `comment` is the doc comment above FROM."""

    index: int
    origin: From
    instructions: tuple[Instruction, ...] = ()
    comment: str = ""

    @property
    def name(self) -> str:
        return self.origin.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file: `global_args` stand before the first FROM; `directives` are lower-case keys to values.

    `escape` is the escape character in force; `text` the source as read, for error excerpts. `gaps` are the
    last lines of instructions that have an empty line inside a continuation.
    """

    name: str
    text: str
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
    directives: tuple[tuple[str, str], ...] = field(default=())
    gaps: tuple[int, ...] = ()
