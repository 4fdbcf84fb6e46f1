"""The build graph as data: stages of steps with everything resolved, nothing executed.

A step holds what its result depends on and nothing else; fields marked ``compare=False`` are for
people and for error messages.
"""

from __future__ import annotations

from minibuild.errors import SourceRange
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.values import dataclass, field


@dataclass(frozen=True, slots=True)
class FromContext:
    """A folder that the caller names; "" is the main build context."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class FromStage:
    index: int


@dataclass(frozen=True, slots=True)
class FromImage:
    image: ResolvedImage


@dataclass(frozen=True, slots=True)
class FromScratch:
    """An empty filesystem."""


Source = FromContext | FromStage | FromImage | FromScratch


@dataclass(frozen=True, slots=True)
class PathItem:
    """A path or wildcard pattern in the step's source."""

    pattern: str


@dataclass(frozen=True, slots=True)
class UrlItem:
    """A file fetched over http(s), called `name` in a destination folder unless it is unpacked."""

    url: str
    name: str
    checksum: str = ""
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class GitItem:
    """A repository checked out at `ref` (or its default branch), `subdir` of it.

    `keep_git_dir` is None where nothing is said of it. With `fetch_by_commit` the commit is `checksum`, and
    nobody asks where `ref` is.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True
    fetch_by_commit: bool = False


@dataclass(frozen=True, slots=True)
class InlineItem:
    """A here-document."""

    name: str
    content: str


CopyItem = PathItem | UrlItem | GitItem | InlineItem


@dataclass(frozen=True, slots=True)
class BindMount:
    target: str
    source: Source
    subpath: str = "/"
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A folder kept between builds under `id`; `sharing` is shared, private or locked."""

    target: str
    id: str
    sharing: str = "shared"
    source: Source = FromScratch()
    subpath: str = "/"
    readonly: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """The secret `id` as a file at `target` and, or, in the variable `env`."""

    id: str
    target: str = ""
    env: str = ""
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    required: bool = False


@dataclass(frozen=True, slots=True)
class SshMount:
    id: str
    target: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    required: bool = False


@dataclass(frozen=True, slots=True)
class ScriptMount:
    """A here-document with its own interpreter line, run as a file at `target`."""

    target: str
    content: str


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """A device of the machine that the command may have, or must."""

    name: str
    required: bool = False


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount | ScriptMount


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """`name` is what progress shows, `where` the instruction's lines; --no-cache clears `cacheable`.

    A result older than `ttl` seconds counts as none; None is for ever.
    """

    name: str = field(compare=False)
    instruction: str = field(compare=False)
    where: SourceRange = field(compare=False)
    cacheable: bool = field(default=True, compare=False)
    ttl: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(_Step):
    """`proxy` variables reach the process and stay out of key and history (predefined proxy ARGs).

    `hostname` is "" for the usual one.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[DeviceWish, ...] = ()
    hostname: str = ""
    proxy: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(_Step):
    """COPY or ADD to `dest`, an absolute path that keeps its trailing slash.

    `unpack` extracts archives found among path items (ADD), or refuses to. `link` makes the layer
    independent of what lies below it.
    """

    source: Source
    items: tuple[CopyItem, ...]
    dest: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    unpack: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(_Step):
    """The folder at `path` is made, with its parents, for `user` where it is missing."""

    path: str
    user: str


Step = RunStep | CopyStep | WorkdirStep


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A line of history to be; `step` is the index of the stage's step that made the layer, or None."""

    line: History
    step: int | None


def sources_of(step: Step) -> list[Source]:
    """What the step reads files from, in its order."""
    match step:
        case CopyStep():
            return [step.source]
        case RunStep():
            return [mount.source for mount in step.mounts if isinstance(mount, BindMount | CacheMount)]
        case _:
            return []


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage, lowered. `config` is complete but for diff IDs, history and creation time.

    `base` is where the filesystem starts, `from_step` what progress shows of that, "" for nothing;
    `history` holds the stage's own lines only.
    """

    index: int
    name: str
    base: Source
    steps: tuple[Step, ...]
    history: tuple[HistoryLine, ...]
    config: ImageConfig
    where: SourceRange
    from_name: str = ""
    from_step: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages that the target needs, each after those it builds on; the last one is the target."""

    stages: tuple[StagePlan, ...]
    epoch: int | None = None

    @property
    def target(self) -> StagePlan:
        return self.stages[-1]

    def stage(self, index: int) -> StagePlan:
        place = min(index, len(self.stages) - 1)  # where it is, if all stages are needed in their order
        if self.stages[place].index == index:
            return self.stages[place]
        return next(stage for stage in self.stages if stage.index == index)
