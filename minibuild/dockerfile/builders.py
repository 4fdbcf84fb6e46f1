"""One function for each instruction: a statement taken apart becomes its frozen class."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from minibuild.dockerfile.execform import parse_array
from minibuild.dockerfile.flags import Flags, Kind, parse_flags
from minibuild.dockerfile.gotext import SPACE, quote, split_blanks
from minibuild.dockerfile.heredoc import body, is_opening
from minibuild.dockerfile.instruction import (
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minibuild.dockerfile.keyvalue import parse_arguments, parse_pairs
from minibuild.dockerfile.stage import check_stage_name
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.dockerfile.syntax import Statement, split_statement
from minibuild.errors import DockerfileError

_NO_FLAGS: Mapping[str, Kind] = {}
_FROM_FLAGS = {"platform": Kind.TEXT}
_RUN_FLAGS = {"mount": Kind.TEXTS, "network": Kind.TEXT, "security": Kind.TEXT, "device": Kind.TEXTS}
_ADD_FLAGS = {
    "chown": Kind.TEXT, "chmod": Kind.TEXT, "link": Kind.BOOL, "keep-git-dir": Kind.BOOL,
    "checksum": Kind.TEXT, "unpack": Kind.BOOL, "exclude": Kind.TEXTS,
}  # fmt: skip
_COPY_FLAGS = {
    "chown": Kind.TEXT, "from": Kind.TEXT, "chmod": Kind.TEXT, "link": Kind.BOOL,
    "exclude": Kind.TEXTS, "parents": Kind.BOOL,
}  # fmt: skip
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")


def build(statement: Statement) -> Instruction:
    """The instruction that `statement` is. Raises DockerfileError, its place not yet set."""
    builder = _BUILDERS.get(statement.keyword.lower())
    if builder is None:
        hint = did_you_mean(statement.keyword, INSTRUCTIONS, case_sensitive=False)
        raise DockerfileError(
            f"unknown instruction: {statement.keyword}{hint}",
            cure="A line that continues the one above needs a continuation character at the end of that one.",
        )
    return builder(statement)


def _no_flags(st: Statement) -> None:
    if st.flags:
        parse_flags(st.flags, _NO_FLAGS)


def _one_argument(st: Statement) -> str:
    if not st.rest:
        name = st.keyword.upper()
        raise DockerfileError(f"{name} requires exactly one argument", cure=f"Write {name} and its value.")
    return st.rest


def _list(st: Statement) -> tuple[str, ...]:
    """Arguments as a JSON array or parted by blanks."""
    array = parse_array(st.rest)
    if array is not None:
        return array
    return tuple(split_blanks(st.rest)) if st.rest else ()


def _at_least_one(st: Statement, args: tuple[str, ...]) -> None:
    if not args:
        name = st.keyword.upper()
        raise DockerfileError(f"{name} requires at least one argument", cure=f"Write {name} and a value.")


def _command(st: Statement) -> CommandLine:
    array = parse_array(st.rest)
    if array is not None:
        return CommandLine(array, shell=False)
    return CommandLine((st.rest,), shell=True, heredocs=st.heredocs)


def _from(st: Statement) -> From:
    args = split_blanks(st.rest) if st.rest else []
    if len(args) == 3 and args[1].lower() == "as":
        check_stage_name(args[2])
    elif len(args) != 1:
        raise DockerfileError(
            "FROM requires either one or three arguments", cure="Write FROM IMAGE or FROM IMAGE AS NAME."
        )
    flags = parse_flags(st.flags, _FROM_FLAGS)
    name = args[2] if len(args) == 3 else ""
    return From(
        code=st.code.strip(SPACE), where=st.where, comments=st.comments,
        base=args[0], name=name.lower(), platform=flags.text("platform") or "", name_as_written=name,
    )  # fmt: skip


def _arg(st: Statement) -> Arg:
    args = parse_arguments(st.rest, st.escape)
    return Arg(code=st.code.strip(SPACE), where=st.where, comments=st.comments, args=args)


def _env(st: Statement) -> Env:
    _no_flags(st)
    pairs = parse_pairs(st.rest, "ENV", st.escape)
    return Env(code=st.code.strip(SPACE), where=st.where, comments=st.comments, pairs=pairs)


def _label(st: Statement) -> Label:
    _no_flags(st)
    pairs = parse_pairs(st.rest, "LABEL", st.escape)
    return Label(code=st.code.strip(SPACE), where=st.where, comments=st.comments, pairs=pairs)


def _run(st: Statement) -> Run:
    flags = parse_flags(st.flags, _RUN_FLAGS)
    network, security = flags.text("network"), flags.text("security")
    if flags.texts("mount"):
        from minibuild.dockerfile.mounts import check_mount

        for mount in flags.texts("mount"):
            check_mount(mount)
    if network is not None and network not in _NETWORKS:
        raise DockerfileError(
            f"invalid network mode {quote(network)}{did_you_mean(network, _NETWORKS)}",
            cure="The modes are default, none and host.",
        )
    if security is not None and security not in _SECURITIES:
        raise DockerfileError(
            f"security {quote(security)} is not valid{did_you_mean(security, _SECURITIES)}",
            cure="The modes are sandbox and insecure.",
        )
    if flags.texts("device"):
        from minibuild.dockerfile.mounts import parse_device

        for device in flags.texts("device"):
            parse_device(device)
    return Run(
        code=st.code.strip(SPACE), where=st.where, comments=st.comments, command=_command(st),
        mounts=flags.texts("mount"), network=network or "", security=security or "",
        devices=flags.texts("device"),
    )  # fmt: skip


def _sources(st: Statement, name: str) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """The paths, the here-documents and the destination of a COPY or ADD."""
    *args, dest = _list(st)
    if is_opening(dest) is not None:
        raise DockerfileError(
            f"{name} cannot accept a heredoc as a destination", cure="Put the destination path last."
        )
    filled = {doc.name: doc.content for doc in st.heredocs}
    paths: list[str] = []
    docs: list[Heredoc] = []
    for arg in args:
        doc = is_opening(arg)
        if doc is None:
            paths.append(arg)
            continue
        doc = Heredoc(doc.name, filled.get(doc.name, ""), expand=doc.expand, chomp=doc.chomp)
        docs.append(Heredoc(doc.name, body(doc), expand=doc.expand, chomp=doc.chomp))
    return tuple(paths), tuple(docs), dest


def _copy(st: Statement) -> Copy:
    add = st.keyword.lower() == "add"
    name = "ADD" if add else "COPY"
    if len(_list(st)) < 2:
        raise DockerfileError(
            f"{name} requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
            cure=f"Write {name} SOURCE... DESTINATION.",
        )
    flags = parse_flags(st.flags, _ADD_FLAGS if add else _COPY_FLAGS)
    sources, heredocs, dest = _sources(st, name)
    return Copy(
        code=st.code.strip(SPACE), where=st.where, comments=st.comments,
        sources=sources, dest=dest, heredocs=heredocs, add=add,
        from_=flags.text("from") or "", chown=flags.text("chown") or "", chmod=flags.text("chmod") or "",
        link=flags.boolean("link") or False, parents=flags.boolean("parents") or False,
        exclude=flags.texts("exclude"), checksum=flags.text("checksum") or "",
        keep_git_dir=flags.boolean("keep-git-dir"), unpack=flags.boolean("unpack"),
    )  # fmt: skip


def _workdir(st: Statement) -> Workdir:
    path = _one_argument(st)
    _no_flags(st)
    return Workdir(code=st.code.strip(SPACE), where=st.where, comments=st.comments, path=path)


def _user(st: Statement) -> User:
    user = _one_argument(st)
    _no_flags(st)
    return User(code=st.code.strip(SPACE), where=st.where, comments=st.comments, user=user)


def _maintainer(st: Statement) -> Maintainer:
    name = _one_argument(st)
    _no_flags(st)
    return Maintainer(code=st.code.strip(SPACE), where=st.where, comments=st.comments, name=name)


def _stopsignal(st: Statement) -> StopSignal:
    signal = _one_argument(st)
    return StopSignal(code=st.code.strip(SPACE), where=st.where, comments=st.comments, signal=signal)


def _cmd(st: Statement) -> Cmd:
    _no_flags(st)
    return Cmd(code=st.code.strip(SPACE), where=st.where, comments=st.comments, command=_command(st))


def _entrypoint(st: Statement) -> Entrypoint:
    _no_flags(st)
    return Entrypoint(code=st.code.strip(SPACE), where=st.where, comments=st.comments, command=_command(st))


def _shell(st: Statement) -> Shell:
    _no_flags(st)
    command = _command(st)
    _at_least_one(st, command.args if st.rest else ())
    if command.shell:
        raise DockerfileError(
            "SHELL requires the arguments to be in JSON form", cure='Write SHELL ["/bin/bash", "-c"].'
        )
    return Shell(code=st.code.strip(SPACE), where=st.where, comments=st.comments, shell=command.args)


def _expose(st: Statement) -> Expose:
    ports = tuple(sorted(split_blanks(st.rest))) if st.rest else ()
    _at_least_one(st, ports)
    _no_flags(st)
    return Expose(code=st.code.strip(SPACE), where=st.where, comments=st.comments, ports=ports)


def _volume(st: Statement) -> Volume:
    args = _list(st)
    _at_least_one(st, args)
    _no_flags(st)
    paths = tuple(arg.strip(SPACE) for arg in args)
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string", cure="Name a path.")
    return Volume(code=st.code.strip(SPACE), where=st.where, comments=st.comments, paths=paths)


def _healthcheck(st: Statement) -> Healthcheck:
    from minibuild.dockerfile.healthcheck import HEALTH_FLAGS, build_healthcheck

    kind, _, rest = _first_word(st.rest)
    _at_least_one(st, (kind,) if kind else ())
    array = parse_array(rest)
    disabled = kind.upper() == "NONE"
    flags = Flags({}) if disabled else parse_flags(st.flags, HEALTH_FLAGS)
    fields = build_healthcheck(kind.upper(), rest, array, flags)
    return Healthcheck(code=st.code.strip(SPACE), where=st.where, comments=st.comments, **fields)


def _first_word(text: str) -> tuple[str, str, str]:
    match = re.match(f"([^{SPACE}]*)([{SPACE}]*)", text)
    assert match is not None
    return match[1], match[2], text[match.end() :]


def _onbuild(st: Statement) -> Onbuild:
    _at_least_one(st, (st.rest,) if st.rest else ())
    _no_flags(st)
    keyword, _, rest = split_statement(st.rest, st.escape)
    trigger = keyword.upper()
    if trigger == "ONBUILD":
        raise DockerfileError(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", cure="Write ONBUILD once."
        )
    if trigger in ("FROM", "MAINTAINER"):
        raise DockerfileError(
            f"{trigger} isn't allowed as an ONBUILD trigger", cure="Move it out of the ONBUILD."
        )
    check_form(trigger, rest, st.escape)
    expression = re.sub(r"(?i)^[\t\n\f\r ]*ONBUILD[\t\n\f\r ]*", "", st.code)
    for doc in st.heredocs:
        expression += f"\n{doc.content}{doc.name}"
    return Onbuild(code=st.code.strip(SPACE), where=st.where, comments=st.comments, expression=expression)


def check_form(keyword: str, rest: str, escape: str) -> None:
    """The checks that BuildKit makes of a trigger where it is written: pairs and JSON arrays, no more."""
    if keyword in ("ENV", "LABEL") and rest:
        parse_pairs(rest, keyword, escape)
    elif keyword in ("ADD", "COPY", "RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME"):
        parse_array(rest)
    elif keyword == "HEALTHCHECK":
        parse_array(_first_word(rest)[2])


_BUILDERS: dict[str, Callable[[Statement], Instruction]] = {
    "add": _copy,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stopsignal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}

INSTRUCTIONS = tuple(name.upper() for name in _BUILDERS)
