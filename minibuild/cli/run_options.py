"""Options of ``minibuild build`` that say what RUN gets, and reading them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from minibuild.engine.request import SshAgent
from minibuild.errors import DockerfileError, UsageError
from minibuild.sandbox.limits import ULIMITS, UNLIMITED, Dns, Limits


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


def size(text: str, option: str) -> int:
    """Bytes as docker writes them (``512m``, ``2g``); 0 for ""."""
    if not text:
        return 0
    from minibuild.dockerfile.units import parse_size

    try:
        return parse_size(text)
    except DockerfileError:
        raise UsageError(f"{option} {text!r}: no size", cure=f"Write it as {option} 512m or 2g.") from None


def duration(text: str, option: str) -> float | None:
    """Seconds of a duration (``90s``, ``10m``, ``1h30m``); None for ""."""
    if not text:
        return None
    from minibuild.dockerfile.duration import parse_duration

    try:
        seconds = parse_duration(text) / 1e9
    except DockerfileError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"{option} {text!r}: no duration", cure=f"Write it as {option} 90s or 10m.")
    return seconds


def network(text: str) -> str:
    """``default``, ``host`` or ``none``; "" for what each RUN says."""
    if text not in ("", "default", "host", "none"):
        raise UsageError(f"--network {text!r}: no such network", cure="Use default, host or none.")
    return text


def cpus(text: str) -> float:
    """A number of processors, as ``1.5``; 0 for ""."""
    try:
        number = float(text or "0")
    except ValueError:
        number = -1.0
    if not (0 < number < 10_000 or not text):
        raise UsageError(f"--cpus {text!r}: no number", cure="Write it as --cpus 1.5.")
    return number


def ulimit(text: str) -> tuple[str, int, int]:
    """``NAME=SOFT[:HARD]``, -1 or unlimited for none."""
    name, _, values = text.partition("=")
    if name not in ULIMITS:
        from minibuild.dockerfile.suggest import did_you_mean

        raise UsageError(
            f"--ulimit {text!r}: no limit is called {name!r}{did_you_mean(name, ULIMITS)}",
            cure="Known are " + ", ".join(ULIMITS) + ".",
        )
    soft, colon, hard = values.partition(":")
    try:
        low = _limit(soft)
        high = _limit(hard) if colon else low
    except ValueError:
        raise UsageError(f"--ulimit {text!r}", cure="Write it as --ulimit nofile=1024:4096.") from None
    if high != UNLIMITED and (low == UNLIMITED or low > high):
        raise UsageError(f"--ulimit {text!r}: the soft limit is above the hard one")
    return name, low, high


def _limit(text: str) -> int:
    number = UNLIMITED if text == "unlimited" else int(text)
    if number < UNLIMITED or number >= 1 << 63:
        raise ValueError(text)
    return number


def dns(servers: Iterable[str] | None, search: Iterable[str] | None, choices: Iterable[str] | None) -> Dns:
    """Name servers by address, and words of resolv.conf(5)."""
    for server in servers or ():
        from ipaddress import ip_address  # few builds name any

        try:
            ip_address(server)
        except ValueError:
            raise UsageError(f"--dns {server!r}: no address", cure="Write it as --dns 10.0.0.53.") from None
    for option, words in (("--dns-search", search), ("--dns-option", choices)):
        for word in words or ():
            if not word or any(char.isspace() for char in word):
                raise UsageError(f"{option} {word!r}: not one word", cure="Give each an option of its own.")
    return Dns(tuple(servers or ()), tuple(search or ()), tuple(choices or ()))


def limits(shm_size: str, ulimits: Iterable[str] | None, memory: str, processors: str) -> Limits:
    """What the options of these names say together."""
    return Limits(
        shm_size=size(shm_size, "--shm-size"),
        memory=size(memory, "--memory"),
        cpus=cpus(processors),
        ulimits=tuple(ulimit(text) for text in ulimits or ()),
    )
