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
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "Free some space and build again; nothing is lost." if full else "Check that file or folder."
        if error.errno == errno.EAGAIN:  # of fork and the like
            from minibuild.threads import MORE as cure
        print(f"ERROR: {where}{(error.strerror or str(error)).lower()}\n{cure}", file=sys.stderr)
        raise SystemExit(5 if full or error.errno == errno.EROFS else 1) from None


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
