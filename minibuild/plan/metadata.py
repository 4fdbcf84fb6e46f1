"""What each metadata instruction does to the image configuration, and the line it leaves in history."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from minibuild.dockerfile import instruction as ast
from minibuild.errors import DockerfileError
from minibuild.oci.config import HealthcheckConfig, ImageConfig
from minibuild.plan import gotext
from minibuild.plan.scope import Scope
from minibuild.values import dataclass, field, replace

Expand = Callable[[str], str]

DEFAULT_SHELL = ("/bin/sh", "-c")
_SIGNALS = frozenset(
    [
        "ABRT",
        "ALRM",
        "BUS",
        "CHLD",
        "CLD",
        "CONT",
        "FPE",
        "HUP",
        "ILL",
        "INT",
        "IO",
        "IOT",
        "KILL",
        "PIPE",
        "POLL",
        "PROF",
        "PWR",
        "QUIT",
        "SEGV",
        "STKFLT",
        "STOP",
        "SYS",
        "TERM",
        "TRAP",
        "TSTP",
        "TTIN",
        "TTOU",
        "URG",
        "USR1",
        "USR2",
        "VTALRM",
        "WINCH",
        "XCPU",
        "XFSZ",
    ]
)


@dataclass(slots=True)
class Collected:
    """What a stage adds to the configuration's collections: put into it once, when all of it is there."""

    labels: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, None] = field(default_factory=dict)
    ports: dict[str, None] = field(default_factory=dict)
    onbuild: list[str] = field(default_factory=list)

    def added_to(self, config: ImageConfig) -> ImageConfig:
        return replace(
            config,
            labels={**config.labels, **self.labels},
            volumes=tuple(dict.fromkeys((*config.volumes, *self.volumes))),
            exposed_ports=tuple(dict.fromkeys((*config.exposed_ports, *self.ports))),
            onbuild=(*config.onbuild, *self.onbuild),
        )


def working_dir(current: str, path: str) -> str:
    """`path` as WORKDIR leaves it: as written where absolute, else cleaned and relative to `current`."""
    if path.startswith("/"):
        return path
    joined = posixpath.join("/", current, path)
    cleaned = posixpath.normpath(joined)
    return "/" + cleaned.lstrip("/")


def with_shell(config: ImageConfig, command: str) -> tuple[str, ...]:
    return (*(config.shell or DEFAULT_SHELL), command)


def apply_env(node: ast.Env, scope: Scope, expand: Expand) -> str:
    """Set the pairs of an ENV; every value sees the variables as they were before the instruction."""
    pairs = [(expand(pair.key), expand(pair.value)) for pair in node.pairs]
    for name, value in pairs:
        scope.set_env(name, value)
    return "ENV" + "".join(f" {name}={value}" for name, value in pairs)


def apply_metadata(
    node: ast.Instruction, config: ImageConfig, collected: Collected, expand: Expand
) -> tuple[ImageConfig, str] | None:
    """The configuration after `node` and its history text ("" for none); None where `node` is no metadata.

    What it adds to a collection is put into `collected`.
    """
    match node:
        case ast.Label():
            pairs = [(expand(pair.key), expand(pair.value)) for pair in node.pairs]
            text = "LABEL" + "".join(f" {key}={value}" for key, value in pairs)
            collected.labels.update(pairs)
            return config, text
        case ast.Maintainer():
            return replace(config, author=node.name), f"MAINTAINER {node.name}"
        case ast.Shell():
            return replace(config, shell=node.shell), f"SHELL {gotext.plain_list(node.shell)}"
        case ast.User():
            user = expand(node.user)
            return replace(config, user=user), f"USER {user}"
        case ast.StopSignal():
            signal = expand(node.signal)
            _check_signal(signal, node)
            return replace(config, stop_signal=signal), f"STOPSIGNAL {signal}"
        case ast.Volume():
            paths = tuple(expand(path) for path in node.paths)
            if "" in paths:
                raise DockerfileError("VOLUME of an empty path", where=node.where, cure="Name a folder.")
            collected.volumes.update(dict.fromkeys(paths))
            return config, f"VOLUME {gotext.plain_list(paths)}"
        case ast.Onbuild():
            collected.onbuild.append(node.expression)
            return config, ""
        case ast.Healthcheck():
            return _apply_healthcheck(node, config)
    return None


def apply_cmd(node: ast.Cmd, config: ImageConfig) -> tuple[ImageConfig, str]:
    args = _command(node.command, config)
    return replace(config, cmd=args, args_escaped=True), f"CMD {gotext.quoted_list(args)}"


def apply_entrypoint(node: ast.Entrypoint, config: ImageConfig, *, keep_cmd: bool) -> tuple[ImageConfig, str]:
    """ENTRYPOINT drops a CMD that came from the base; `keep_cmd` says that this stage set its own."""
    args = _command(node.command, config)
    cmd = config.cmd if keep_cmd else None
    return replace(config, entrypoint=args, cmd=cmd), f"ENTRYPOINT {gotext.quoted_list(args)}"


def apply_expose(node: ast.Expose, collected: Collected, words: list[str]) -> str:
    from minibuild.dockerfile.ports import parse_ports

    ports = parse_ports(words, where=node.where)
    collected.ports.update(dict.fromkeys(ports))
    return f"EXPOSE {gotext.plain_list(ports)}"


def _command(command: ast.CommandLine, config: ImageConfig) -> tuple[str, ...]:
    if command.shell:
        return with_shell(config, " ".join(command.args))
    return command.args


def _apply_healthcheck(node: ast.Healthcheck, config: ImageConfig) -> tuple[ImageConfig, str]:
    check = HealthcheckConfig(
        test=node.test,
        interval=node.interval,
        timeout=node.timeout,
        start_period=node.start_period,
        start_interval=node.start_interval,
        retries=node.retries,
    )
    fields = (
        f"Test:{gotext.plain_list(node.test)}",
        f"Interval:{gotext.duration(node.interval)}",
        f"Timeout:{gotext.duration(node.timeout)}",
        f"StartPeriod:{gotext.duration(node.start_period)}",
        f"StartInterval:{gotext.duration(node.start_interval)}",
        f"Retries:{node.retries}",
    )
    return replace(config, healthcheck=check), "HEALTHCHECK {" + " ".join(fields) + "}"


def _check_signal(signal: str, node: ast.StopSignal) -> None:
    if signal.isdigit():
        valid = int(signal) != 0
    else:
        name = signal.upper().removeprefix("SIG")
        realtime = name.startswith(("RTMIN", "RTMAX")) and name[5:].lstrip("+-").isdigit()
        valid = name in _SIGNALS or name in ("RTMIN", "RTMAX") or realtime
    if not valid:
        raise DockerfileError(
            f"invalid signal: {signal}",
            where=node.where,
            cure="Name a signal such as SIGTERM, or its number.",
        )
