"""From an error to a message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from minibuild_store.errors import BlobDamaged, BlobNotFound, StoreError, StoreUnusable

from minibuild.cli.interrupts import interrupted_by_sigterm
from minibuild.errors import (
    Cancelled,
    LayerError,
    MinibuildError,
    OutputError,
    RunFailed,
    SandboxError,
    UsageError,
)

_CODES: tuple[tuple[type[MinibuildError], int], ...] = (
    (RunFailed, 1),
    (UsageError, 2),
    (SandboxError, 3),
    (OutputError, 5),
    (LayerError, 1),
)

_SYSTEM_CODES = {errno.EMFILE: 3, errno.ENFILE: 3, errno.EAGAIN: 3, errno.ENOMEM: 3} | dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EBADF), 5
)

_AGAIN = "\nBuild the image again, or pull it again where it came from a registry."
_CURES: tuple[tuple[type[StoreError], str], ...] = (
    (StoreUnusable, "\nName another folder with MINIBUILD_ROOT."),
    (BlobDamaged, _AGAIN),
    (BlobNotFound, _AGAIN),
)


def exit_code(error: MinibuildError) -> int:
    if isinstance(error, Cancelled):
        return 130
    if type(error).__module__.startswith("minibuild.registry"):
        return 4
    return next((code for family, code in _CODES if isinstance(error, family)), 1)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn the errors of a command into one message on standard error and the exit code.

    SIGINT and SIGTERM end it as an error would, unless it handles them itself.
    """
    try:
        with interrupted_by_sigterm():
            yield
    except MinibuildError as error:
        print(message(error), file=sys.stderr)
        raise SystemExit(exit_code(error)) from None
    except StoreError as error:
        cure = next((cure for family, cure in _CURES if isinstance(error, family)), "")
        print(f"ERROR: {error}{cure}", file=sys.stderr)
        raise SystemExit(5) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        print(f"ERROR: {of_the_system(error)}", file=sys.stderr)
        raise SystemExit(system_code(error)) from None


def system_code(error: OSError) -> int:
    """The exit code for what the kernel refused."""
    return _SYSTEM_CODES.get(error.errno or 0, 1)


def of_the_system(error: OSError) -> str:
    """What the kernel refused, and what to do."""
    from minibuild.refusals import CURES, named

    cure = CURES.get(error.errno or 0, "Check that file or folder.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "Free some space and build again; nothing is lost."
    elif error.errno == errno.EBADF:
        return "standard output is closed\nLeave it open, or let it go to /dev/null."
    elif str(error.filename).startswith("/proc/"):
        cure = "Mount /proc where minibuild runs: mount -t proc proc /proc"
    return f"{named(error)}{(error.strerror or str(error)).lower()}\n{cure}"


def message(error: MinibuildError) -> str:
    """The lines at fault, what happened, what to do; of each where several things failed."""
    return "\n\n".join(_message(one) for one in (error, *error.others))


def _message(error: MinibuildError) -> str:
    parts = []
    if error.where is not None and error.source is not None:
        from minibuild.dockerfile.excerpt import excerpt

        parts.append(excerpt(error.source, error.where).rstrip("\n"))
    elif error.where is not None:
        parts.append(f"{error.where.file}:{error.where.first}")
    parts.append(f"ERROR: {error.message}")
    if error.cure:
        parts.append(error.cure)
    return "\n".join(parts)
