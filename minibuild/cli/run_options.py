"""Options of ``minibuild build`` that say what RUN gets, and reading them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minibuild.engine.request import SshAgent
from minibuild.errors import UsageError


def ssh_agent(text: str) -> SshAgent:
    """``ID`` (the agent of $SSH_AUTH_SOCK), ``ID=SOCKET`` or ``ID=KEYFILE[,KEYFILE...]``."""
    name, equals, value = text.partition("=")
    name = name or "default"
    if not equals or not value:
        value = os.environ.get("SSH_AUTH_SOCK", "")
        if not value:
            raise UsageError(
                f"--ssh {text}: no ssh agent runs (SSH_AUTH_SOCK is not set)",
                cure=f"Start one (eval $(ssh-agent); ssh-add), or give a key: --ssh {name}=KEYFILE.",
            )
        return SshAgent(name, socket=Path(value))
    sockets: list[Path] = []
    keys: list[Path] = []
    for path in map(Path, value.split(",")):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise UsageError(
                f"--ssh {text!r}: {path}: {(error.strerror or '').lower()}", cure="Check the path."
            ) from None
        (sockets if stat.S_ISSOCK(mode) else keys).append(path)
    if sockets and (keys or len(sockets) > 1):
        raise UsageError(f"--ssh {text!r}: one socket, or key files", cure="Give each a name of its own.")
    return SshAgent(name, socket=sockets[0] if sockets else None, keys=tuple(keys))
