"""The interpreter that the holder runs on, and why it may run on a copy.

At the moment a sandboxed program is executed, /proc/self/exe is still our interpreter, and an image
whose program is a link to it (or a script with it as interpreter) gets to run it, open it, and write
to the file once nothing executes it (CVE-2019-5736). So where the sandbox's root could write to that
file, the holder is started from a sealed copy in memory, of which nothing can be changed.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Final

from minibuild.errors import SandboxError

_MFD_EXEC: Final = 0x10  # Linux 6.3; older kernels refuse the flag and need none
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def is_writable(path: Path) -> bool:
    """Whether this user could write to `path`, now or after chmod."""
    return os.geteuid() == 0 or path.stat().st_uid == os.geteuid() or os.access(path, os.W_OK)


def sealed_copy(path: Path) -> int:
    """A descriptor of an executable copy of `path` in memory that nobody can change."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            fd = os.memfd_create("minibuild", flags | _MFD_EXEC)
        except OSError:
            fd = os.memfd_create("minibuild", flags)
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            while size > 0:
                size -= os.sendfile(fd, source.fileno(), None, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        raise SandboxError(
            f"the interpreter cannot be copied to memory: {error.strerror}",
            cure="Allow executable memory files (sysctl -w vm.memfd_noexec=0).",
        ) from None
    return fd


def interpreter() -> tuple[str, int | None, dict[str, str]]:
    """What to execute as our own interpreter: path, descriptor behind the path if any, environment."""
    real = Path(os.path.realpath(sys.executable))
    if not is_writable(real):
        return sys.executable, None, {}
    fd = sealed_copy(real)
    # A library found by $ORIGIN is looked for beside the executable, which a copy in memory is not.
    return f"/proc/self/fd/{fd}", fd, {"LD_LIBRARY_PATH": str(real.parent.parent / "lib")}
