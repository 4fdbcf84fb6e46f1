"""SOURCE_DATE_EPOCH: seconds, or the name of what is as old as the image is to be.

A name is ``context``, a named context, or a stage of one ADD from a remote place: its commit's time, when
its server says that it was changed, or the newest file of an archive (BuildKit: dockerfile2llb/epoch.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from minibuild.dockerfile import instruction as ast
from minibuild.errors import DockerfileError
from minibuild.plan.copystep import remote_item
from minibuild.plan.options import EPOCH as NAME
from minibuild.plan.options import Bases, LowerOptions
from minibuild.plan.steps import GitItem, UrlItem

_SECONDS = re.compile(r"[+-]?[0-9]{1,18}\Z")
_TIMES = range(-30_610_224_000, 253_402_300_800)  # of the years 1000 to 9999, as RFC 3339 writes them
_SOURCE_ONLY = "Write it as FROM scratch AS NAME and one ADD of a repository or a URL."

Expand = Callable[[str, Mapping[str, str]], str]


def resolve(
    dockerfile: ast.Dockerfile, options: LowerOptions, scope: dict[str, str], bases: Bases, expand: Expand
) -> tuple[int | None, dict[str, str], dict[str, str]]:
    """The seconds that images are dated with, None for no such time; and arguments that say so.

    `scope` are the global arguments, of which `expand` replaces those in a text. The build arguments and
    the scope come back with the seconds for what was given by name. Raises `DockerfileError`.
    """
    given = dict(options.build_args)
    text = given[NAME] if NAME in given else scope.get(NAME, "")
    if options.epoch is not None:
        return options.epoch, given, scope
    seconds = _seconds(text, dockerfile, options, scope, bases, expand)
    scope = dict(scope)
    for values in (given, scope):
        if NAME in values and seconds is None:
            del values[NAME]
        elif NAME in values:
            values[NAME] = str(seconds)
    return seconds, given, scope


def _seconds(
    text: str,
    dockerfile: ast.Dockerfile,
    options: LowerOptions,
    scope: Mapping[str, str],
    bases: Bases,
    expand: Expand,
) -> int | None:
    if not text:
        return None
    if _SECONDS.match(text):
        if int(text) not in _TIMES:
            raise DockerfileError(
                f"invalid {NAME}: {text} is no time that an image can have",
                cure="Give seconds, not milliseconds, since 1970, as of date +%s.",
            )
        return int(text)
    if text == "context":
        return options.context_time
    if text != text.lower():
        raise DockerfileError(
            f"invalid {NAME}: {text}", cure="Write the context's or stage's name in lower case."
        )
    if bases.has_context(text):
        return bases.context_time(text, options.target_platform)
    for stage in dockerfile.stages:
        if stage.name == text:
            variables = {name: value for name, value in scope.items() if name != NAME}
            try:
                return bases.time_of(_source(stage, variables, options.build_args, expand))
            except DockerfileError as error:
                raise error.at(stage.origin.where) from None
    raise DockerfileError(
        f"invalid {NAME}: {text}",
        cure="Give whole seconds since 1970, as of date +%s, context, or the name of a context or stage.",
    )


def _source(
    stage: ast.Stage, variables: dict[str, str], given: Mapping[str, str], expand: Expand
) -> UrlItem | GitItem:
    """What the only ADD of `stage` fetches; raises `DockerfileError` where there is more to it."""
    if expand(stage.origin.base, variables) != "scratch":
        raise DockerfileError(f"{NAME} stage must use FROM scratch", cure=_SOURCE_ONLY)
    found: UrlItem | GitItem | None = None
    for node in stage.instructions:
        match node:
            case ast.Arg():
                for name, default in node.args:
                    if name in given:
                        variables[name] = given[name]
                    elif default is not None:
                        variables[name] = expand(default, variables)
            case ast.Copy(add=True) if found is None:
                if len(node.sources) != 1 or node.heredocs:
                    raise DockerfileError(
                        f"{NAME} stage must contain exactly one remote ADD source", cure=_SOURCE_ONLY
                    )
                checksum = expand(node.checksum, variables)
                item = remote_item(expand(node.sources[0], variables), node, checksum)
                if item is None:
                    raise DockerfileError(
                        f"{NAME} stage source must be a single HTTP(S) or Git ADD", cure=_SOURCE_ONLY
                    )
                found = item
            case ast.Copy(add=True):
                raise DockerfileError(f"{NAME} stage must contain exactly one remote ADD", cure=_SOURCE_ONLY)
            case _:
                word = node.code.split()[0].upper()
                raise DockerfileError(
                    f"{NAME} stage does not meet source-only requirements: unsupported {word} instruction",
                    cure=_SOURCE_ONLY,
                )
    if found is None:
        raise DockerfileError(f"{NAME} stage must contain exactly one remote ADD", cure=_SOURCE_ONLY)
    return found
