"""RUN: its command line, here-documents and mounts, as a `RunStep`."""

from __future__ import annotations

import posixpath
from contextlib import suppress

from minibuild.credentials import redacted
from minibuild.dockerfile import heredoc
from minibuild.dockerfile import instruction as ast
from minibuild.dockerfile.words import expand
from minibuild.errors import DockerfileError
from minibuild.plan import steps
from minibuild.plan.metadata import with_shell
from minibuild.plan.stagestate import Lookup, StageState
from minibuild.values import dataclass

_SCRIPT_FOLDER = "/dev/pipes"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the build says about every RUN: default network, namespace of cache ids, host name, proxies."""

    escape: str = "\\"
    network: str = ""
    cache_namespace: str = ""
    hostname: str = ""
    proxy: tuple[tuple[str, str], ...] = ()


def apply(node: ast.Run, state: StageState, lookup: Lookup, options: RunOptions) -> None:
    """Add the step of `node` to `state`, with its history line."""
    args, script = _arguments(node, state)
    mounts: list[steps.Mount] = [] if script is None else [script]
    secret_names = []
    for text in node.mounts:
        mount = _mount(text, node, state, lookup, options)
        if isinstance(mount, steps.SecretMount) and mount.env:
            secret_names.append(mount.env)
        mounts.append(mount)
    masked = {**state.scope.variables, **dict.fromkeys(secret_names, "****")}
    state.steps.append(
        steps.RunStep(
            name=state.prefix() + redacted(_shown(node, masked, options.escape)),
            instruction=redacted(node.code),
            where=node.where,
            cacheable=state.cacheable,
            args=args,
            env=tuple(state.scope.variables.items()),
            cwd=state.config.working_dir or "/",
            user=state.config.user,
            mounts=tuple(mounts),
            network=node.network or options.network,
            security=node.security,
            devices=tuple(_device(text) for text in node.devices),
            hostname=options.hostname,
            proxy=tuple(pair for pair in options.proxy if pair[0] not in state.scope.variables),
        )
    )
    prefix = state.scope.arg_prefix()
    words = (prefix, *args) if prefix else args
    state.record("RUN " + " ".join(words) + " # buildkit", layer=True)


def _arguments(node: ast.Run, state: StageState) -> tuple[tuple[str, ...], steps.ScriptMount | None]:
    """The argument vector, and the script file where a single here-document names its interpreter."""
    command = node.command
    if not command.shell:
        return command.args, None
    text = heredoc.script(command)
    only = heredoc.sole(command)
    if only is not None and text.startswith("#!"):
        target = posixpath.join(_SCRIPT_FOLDER, only.name)
        return with_shell(state.config, target), steps.ScriptMount(target, text)
    return with_shell(state.config, text), None


def _shown(node: ast.Run, variables: dict[str, str], escape: str) -> str:
    text = node.code
    if node.command.heredocs:
        first = node.command.heredocs[0].content.split("\n", 1)
        summary = first[0] + ("..." if len(first) > 1 and first[1].strip() else "")
        text += f" ({summary})"
    with suppress(DockerfileError):  # the shell will say what is wrong with it
        text = expand(text, variables, escape=escape, keep_quotes=True, skip_unset=True).text
    head, _, rest = text.partition(" ")
    return f"{head.upper()} {rest}"


def _device(text: str) -> steps.DeviceWish:
    from minibuild.dockerfile.mounts import parse_device

    found = parse_device(text)
    return steps.DeviceWish(found.name, found.required)


def _mount(text: str, node: ast.Run, state: StageState, lookup: Lookup, options: RunOptions) -> steps.Mount:
    from minibuild.dockerfile import mounts as dockerfile_mounts

    def expander(word: str) -> str:
        return expand(word, state.scope.variables, escape=options.escape).text

    mount = dockerfile_mounts.parse_mount(text, expand=expander, where=node.where)
    match mount:
        case dockerfile_mounts.BindMount():
            source = lookup(mount.from_, state, node.where) if mount.from_ else steps.FromContext()
            target = _target(mount.target, node, state)
            return steps.BindMount(target, source, _inside(mount.source), mount.readonly)
        case dockerfile_mounts.CacheMount():
            source = lookup(mount.from_, state, node.where) if mount.from_ else steps.FromScratch()
            return steps.CacheMount(
                target=_target(mount.target, node, state),
                id=f"{options.cache_namespace}/{mount.id}",
                sharing=mount.sharing,
                source=source,
                subpath=_inside(mount.source),
                readonly=mount.readonly,
                mode=0o755 if mount.mode is None else mount.mode,
                uid=mount.uid or 0,
                gid=mount.gid or 0,
            )
        case dockerfile_mounts.TmpfsMount():
            return steps.TmpfsMount(_target(mount.target, node, state), mount.size)
        case dockerfile_mounts.SecretMount():
            return steps.SecretMount(
                mount.id, mount.target, mount.env, mount.mode, mount.uid, mount.gid, mount.required
            )
        case dockerfile_mounts.SshMount():
            return steps.SshMount(mount.id, mount.target, mount.mode, mount.uid, mount.gid, mount.required)


def _target(target: str, node: ast.Run, state: StageState) -> str:
    path = posixpath.normpath(posixpath.join("/", state.config.working_dir or "/", target))
    path = "/" + path.lstrip("/")
    if path == "/":
        raise DockerfileError(
            f'invalid mount target "{target}"', where=node.where, cure="Mount below the root, as target=/src."
        )
    return path


def _inside(source: str) -> str:
    return posixpath.normpath(posixpath.join("/", source)).replace("//", "/")
