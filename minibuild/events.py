"""What a build tells while it runs: frozen events to one sink. The library's only voice."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """The first event. `id` names the record that the build leaves when it has had steps."""

    id: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Step `id` (counted from 1 in order of start) begins. `name` is what people read."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class StepMissed:
    """Step `id` has no usable cache record; `reason` is one line, `details` what changed, a line each.

    `kind` is a word for programs: ``files``, ``command``, ``follows`` and so on, as docs/cache.md lists them.
    """

    id: int
    reason: str
    details: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that the step's command wrote; `stream` is 1 (stdout) or 2 (stderr)."""

    id: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StepProgress:
    """`done` of `total` bytes (0 where unknown) of `what` (a blob being pulled or pushed)."""

    id: int
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepFinished:
    """Step `id` is done after `seconds`. `cached` where nothing was executed; `bytes` of new layer data."""

    id: int
    seconds: float
    cached: bool = False
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class StepFailed:
    """Step `id` ended with an error after `seconds`; `message` is the error's text."""

    id: int
    seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that is no error; `kind` is ``warning`` or ``note``."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckWarning:
    """What a build check found at `line` of `file`; `url` explains the rule."""

    rule: str
    message: str
    file: str
    line: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class CheckWarnings:
    """All that the build checks found, once the steps are over."""

    warnings: tuple[CheckWarning, ...]


@dataclass(frozen=True, slots=True)
class BuildFinished:
    """The closing figures: steps, hits among them, `seconds` of wall time, `bytes` of new layer data."""

    steps: int
    hits: int
    seconds: float
    bytes: int
    seconds_saved: float


Event = (
    BuildStarted
    | StepStarted
    | StepMissed
    | StepOutput
    | StepProgress
    | StepFinished
    | StepFailed
    | Notice
    | CheckWarnings
    | BuildFinished
)
EventSink = Callable[[Event], None]


def silent(event: Event) -> None:
    """A sink that drops everything."""
