"""The families of errors that a build can end with.

MinibuildError            message says what happened and what to do
├── DockerfileError       the Dockerfile (or ignore file) is at fault; carries file and lines
├── UsageError            an option, a name or the context is at fault
├── RunFailed             a RUN ended with a non-zero exit code
├── SandboxError          this machine cannot run the step
├── LayerError            a layer archive is malformed or hostile
├── RegistryError         a registry refused, failed or lied (see `minibuild.registry.errors`)
├── OutputError           a result could not be written
└── Cancelled             the caller stopped the build
"""

from __future__ import annotations

from minibuild.credentials import redacted
from minibuild.values import dataclass


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Lines `first` to `last` (1-based, inclusive) of `file`."""

    file: str
    first: int
    last: int


class MinibuildError(Exception):
    """Base of all errors; `cure` is one sentence on what to do, `where` the lines at fault.

    `source` is the text that `where` points into, where whoever raised it had it. `others` are what else
    failed in a build that kept going. Addresses in the message lose their passwords.
    """

    source: str | None = None
    others: tuple[MinibuildError, ...] = ()

    def __init__(self, message: str, *, cure: str = "", where: SourceRange | None = None) -> None:
        super().__init__(redacted(message))
        self.message = redacted(message)
        self.cure = cure
        self.where = where

    def at(self, where: SourceRange | None) -> MinibuildError:
        """The same error, placed at `where` unless it already has a place."""
        if self.where is None:
            self.where = where
        return self


class DockerfileError(MinibuildError):
    """A fault in the text of a Dockerfile."""


class UsageError(MinibuildError):
    """A fault in what the caller asked for."""


class RunFailed(MinibuildError):
    """A RUN ended with `exit_code` (128 + signal number where a signal ended it)."""

    def __init__(
        self, message: str, *, exit_code: int, cure: str = "", where: SourceRange | None = None
    ) -> None:
        super().__init__(message, cure=cure, where=where)
        self.exit_code = exit_code


class SandboxError(MinibuildError):
    """This machine cannot run the step as asked."""


class LayerError(MinibuildError):
    """A layer archive is malformed, hostile, or not what its diff ID promises."""


class OutputError(MinibuildError):
    """A result could not be written."""


class Cancelled(MinibuildError):
    """The caller stopped the build, or whatever it was."""

    def __init__(self) -> None:
        super().__init__("cancelled")
