"""OCI runtimes (runc, crun and what takes the same command line) that RUN can be handed to."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

from minibuild.errors import SandboxError
from minibuild.values import dataclass

_USUAL: Final = ("crun", "runc")
_PLACES: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS: Final = 10.0
# Control groups are ours to make (`cgroups`), and no runtime may fail for want of them.
_WITHOUT_CGROUPS: Final = {"crun": ("--cgroup-manager=disabled",), "runc": ("--rootless=true",)}


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime: `name` and version for people, `command` to put before its subcommand."""

    name: str
    command: tuple[str, ...]


def runtimes(wanted: str = "") -> list[Runtime]:
    """`wanted`, a name or a path, or all of the usual ones there are, best first. Raises `SandboxError`."""
    names = (wanted,) if wanted else _USUAL
    search = os.pathsep.join((os.environ.get("PATH", ""), _PLACES))
    paths = [path for name in names if (path := shutil.which(name, path=search))]
    if not paths:
        what = f"no program {wanted}" if wanted else "neither crun nor runc is installed"
        raise SandboxError(
            f"isolation oci: {what}", cure="Install one (apt-get install runc), or give --oci-runtime PATH."
        )
    return [_identify(os.path.abspath(path)) for path in paths]


def _identify(path: str) -> Runtime:
    """What calls itself runc or crun; anything else is taken to be like runc, less its own options."""
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {_SECONDS:.0f} s"
        raise SandboxError(f"{path} cannot be executed: {reason.lower()}", cure=_CURE) from None
    words = done.stdout.split("\n", 1)[0].split()
    if done.returncode or "version" not in words:
        raise SandboxError(f"{path} is not an OCI runtime: it does not tell its version", cure=_CURE)
    kind = words[0]
    name = f"{kind} {words[words.index('version') + 1]}" if words[-1] != "version" else kind
    return Runtime(name, (path, *_WITHOUT_CGROUPS.get(kind, ())))


_CURE: Final = "Give the path of runc or crun to --oci-runtime."
