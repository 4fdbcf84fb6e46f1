"""What a caller can ask of a Dockerfile: its stages, and the arguments, secrets and keys of a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minibuild.dockerfile.instruction import Arg, Copy, Dockerfile, Run, Stage
from minibuild.dockerfile.lintreport import encoded, location
from minibuild.dockerfile.mounts import BindMount, CacheMount, SecretMount, SshMount, parse_mount
from minibuild.dockerfile.parse import with_triggers
from minibuild.dockerfile.stage import find_stage, unknown_stage
from minibuild.dockerfile.words import expand
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple


class OutlineArg(NamedTuple):
    name: str
    value: str
    description: str
    where: SourceRange
    needs: frozenset[str] = frozenset()


class Needed(NamedTuple):
    """A secret, or an SSH agent or key, by its id."""

    name: str
    required: bool
    where: SourceRange


class Outline(NamedTuple):
    """All that the target `name` ("" for a stage without one) and what it builds on can be given."""

    name: str
    description: str
    args: tuple[OutlineArg, ...]
    secrets: tuple[Needed, ...]
    ssh: tuple[Needed, ...]


class _Stage:
    """What one stage knows and uses; a stage FROM another begins with all that one knows and uses."""

    def __init__(self, before: _Stage | None, args: Mapping[str, OutlineArg]) -> None:
        self.args: dict[str, OutlineArg] = dict(before.args if before else args)
        self.used: set[str] = set(before.used if before else ())
        self.env: dict[str, str] = dict(before.env if before else ())
        self.secrets: dict[str, Needed] = dict(before.secrets if before else ())
        self.ssh: dict[str, Needed] = dict(before.ssh if before else ())
        self.needs: list[int] = []


def outline(
    dockerfile: Dockerfile, target: str, build_args: Mapping[str, str], predefined: Mapping[str, str]
) -> Outline:
    """The outline of `target` ("" for the last stage), as BuildKit's; raises where there is no such stage."""
    stages = dockerfile.stages
    index = find_stage(stages, target) if target else len(stages) - 1
    if index is None:
        raise unknown_stage(stages, target, what="target stage")
    env, args = _global_args(dockerfile, dict(predefined), build_args)
    known: list[_Stage] = []
    for stage in stages:
        base = expand(stage.origin.base, env, escape=dockerfile.escape)
        platform = expand(stage.origin.platform, env, escape=dockerfile.escape)
        earlier = find_stage(stages[: stage.index], base.text, by_index=False)
        state = _Stage(None if earlier is None else known[earlier], args)
        if earlier is not None:
            state.needs.append(earlier)
        state.used |= base.used | platform.used
        fired = with_triggers(stage, None if earlier is None else stages[earlier])
        _follow(fired, state, dockerfile, env, build_args)
        known.append(state)
    return _collect(stages[index], known)


def _global_args(
    dockerfile: Dockerfile, env: dict[str, str], build_args: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, OutlineArg]]:
    args: dict[str, OutlineArg] = {}
    for node in dockerfile.global_args:
        for name, default in node.args:
            needs: frozenset[str] = frozenset()
            value = build_args.get(name)
            if value is None and default is not None:
                expanded = expand(default, env, escape=dockerfile.escape)
                value, needs = expanded.text, expanded.used - {name}
                if name in expanded.used and name in args:
                    needs |= args[name].needs
            if value is not None:
                env[name] = value
            args[name] = OutlineArg(name, value or "", description(node.comments, name), node.where, needs)
    return env, args


def _follow(
    stage: Stage, state: _Stage, dockerfile: Dockerfile, env: Mapping[str, str], build_args: Mapping[str, str]
) -> None:
    stages = dockerfile.stages
    for node in stage.instructions:
        if isinstance(node, Arg):
            _declare(node, state, dockerfile.escape, env, build_args)
        elif isinstance(node, Copy) and node.from_:
            _depend(find_stage(stages, node.from_), stage, state)
        elif isinstance(node, Run):
            for text in node.mounts:
                mount = parse_mount(
                    text, expand=lambda word: expand(word, state.env, escape=dockerfile.escape).text
                )
                if isinstance(mount, SecretMount):
                    state.secrets.setdefault(mount.id, Needed(mount.id, mount.required, node.where))
                elif isinstance(mount, SshMount):
                    state.ssh.setdefault(mount.id, Needed(mount.id, mount.required, node.where))
                elif isinstance(mount, BindMount | CacheMount) and mount.from_:
                    _depend(find_stage(stages, mount.from_), stage, state)


def _declare(
    node: Arg, state: _Stage, escape: str, env: Mapping[str, str], build_args: Mapping[str, str]
) -> None:
    for name, default in node.args:
        value = build_args.get(name)
        inherited = value is None and default is None and name in env
        if inherited:
            value = env[name]
        elif value is None and default is not None:
            value = expand(default, state.env, escape=escape).text
        if value is not None:
            state.env[name] = value
        if not inherited:
            text = description(node.comments, name)
            state.args[name] = OutlineArg(name, value or "", text, node.where)
        state.used.add(name)


def _depend(index: int | None, stage: Stage, state: _Stage) -> None:
    if index is not None:
        if index >= stage.index:
            raise DockerfileError(
                f"stage {stage.name or stage.index} uses a stage that is not above it",
                where=stage.origin.where,
                cure="Move that stage above this one.",
            )
        state.needs.append(index)


def _collect(target: Stage, known: list[_Stage]) -> Outline:
    """The target's own first, then those of the stages it needs; a name counts once."""
    args: dict[str, OutlineArg] = {}
    secrets: dict[str, Needed] = {}
    ssh: dict[str, Needed] = {}
    waiting, seen = [target.index], {target.index}
    while waiting:
        state = known[waiting.pop(0)]
        for name in _with_needs(state):
            if name in state.args:
                args.setdefault(name, state.args[name])
        for identity, needed in state.secrets.items():
            secrets.setdefault(identity, needed)
        for identity, needed in state.ssh.items():
            ssh.setdefault(identity, needed)
        waiting.extend(index for index in state.needs if index not in seen)
        seen.update(state.needs)
    return Outline(
        target.name,
        target.comment,
        tuple(sorted(args.values(), key=lambda one: one.where.first)),
        tuple(sorted(secrets.values(), key=lambda one: one.where.first)),
        tuple(sorted(ssh.values(), key=lambda one: one.where.first)),
    )


def _with_needs(state: _Stage) -> list[str]:
    """The names used, and those that their defaults use, in the order they are declared."""
    wanted, waiting = set(state.used), list(state.used)
    while waiting:
        arg = state.args.get(waiting.pop())
        more = arg.needs - wanted if arg else frozenset()
        wanted |= more
        waiting.extend(more)
    return [name for name in state.args if name in wanted]


def description(comments: tuple[str, ...], name: str) -> str:
    """What the comment ``# NAME description`` above an instruction says of `name`."""
    start = f"{name} "
    return next((text for text in comments if text.startswith(start)), "").removeprefix(start)


def outline_text(found: Outline) -> str:
    parts = []
    if found.name or found.description:
        rows = [("TARGET:", found.name or "(default)")]
        if found.description:
            rows.append(("DESCRIPTION:", found.description))
        parts.append(_columns(rows, 1))
    if found.args:
        rows3 = [("BUILD ARG", "VALUE", "DESCRIPTION")]
        rows3 += [(arg.name, arg.value, arg.description) for arg in found.args]
        parts.append(_columns(rows3, 3))
    for title, needed in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if needed:
            rows = [(title, "REQUIRED"), *((one.name, "true" if one.required else "") for one in needed)]
            parts.append(_columns(rows, 3))
    return "".join(f"{part}\n" for part in parts)


def outline_json(found: Outline, source: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": found.name,
        "description": found.description,
        "args": [
            _without_empty(
                name=arg.name, description=arg.description, value=arg.value, location=location(arg.where)
            )
            for arg in found.args
        ],
    }
    for key, needed in (("secrets", found.secrets), ("ssh", found.ssh)):
        document[key] = [
            _without_empty(name=one.name, required=one.required, location=location(one.where))
            for one in needed
        ]
    return _without_empty(**document, sources=[encoded(source)])


def targets_text(dockerfile: Dockerfile) -> str:
    rows = [("TARGET", "DESCRIPTION")]
    for stage in dockerfile.stages:
        last = stage.index == len(dockerfile.stages) - 1
        name = f"{stage.name} (default)" if last and stage.name else "(default)" if last else stage.name
        rows.append((name, stage.comment))
    return _columns(rows, 1)


def targets_json(dockerfile: Dockerfile) -> dict[str, Any]:
    targets = [
        _without_empty(
            name=stage.name,
            default=stage.index == len(dockerfile.stages) - 1,
            description=stage.comment,
            base=stage.origin.base,
            platform=stage.origin.platform,
            location=location(stage.origin.where),
        )
        for stage in dockerfile.stages
    ]
    return {"targets": targets, "sources": [encoded(dockerfile.text)]}


def _without_empty(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _columns(rows: list[Any], gap: int) -> str:
    """Left-aligned columns; the last one is not padded, others are even where they are empty."""
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        lines.append("".join(cells) + row[-1] + "\n")
    return "".join(lines)
