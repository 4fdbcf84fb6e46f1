"""Build checks that the text alone decides: what is legal in a Dockerfile and still likely a mistake."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial

from minibuild.dockerfile import lintrules as rules
from minibuild.dockerfile.directives import option_text
from minibuild.dockerfile.gotext import quote, split_blanks
from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.dockerfile.imagename import is_image_name, platform_parts
from minibuild.dockerfile.instruction import Arg, Dockerfile, From, Instruction, Maintainer, Stage
from minibuild.dockerfile.lintrules import Finding, Findings, LintOptions, parse_lint_options, suggestion
from minibuild.dockerfile.lintstage import StageState, check_stage
from minibuild.dockerfile.parse import with_triggers
from minibuild.dockerfile.stage import RESERVED_NAMES, find_stage
from minibuild.dockerfile.words import Expansion, expand
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLATFORM_NAMES = ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")


class Base(NamedTuple):
    """What the image that a stage starts from sets, and its platform where that is not the one `expected`.

    `onbuild` are its triggers, which are checked as instructions of the stage.
    """

    env: Mapping[str, str]
    platform: str = ""
    expected: str = ""
    onbuild: tuple[str, ...] = ()


def lint(
    dockerfile: Dockerfile,
    *,
    options: LintOptions | None = None,
    build_args: Mapping[str, str] | None = None,
    platform: str = "linux/amd64",
    bases: Callable[[int, str], Base | None] | None = None,
    ignore: IgnoreFile | None = None,
    stages: Container[int] | None = None,
    until: SourceRange | None = None,
) -> list[Finding]:
    """What the checks find, in BuildKit's order.

    Without `options` those of the file's ``# check=`` count. `bases` is asked with a stage's index and its
    expanded base name; an image that it does not know is taken to set PATH and nothing else, so that a use
    of another variable of the image is reported. `ignore` enables CopyIgnoredFile. Only `stages` (default:
    all) are followed instruction by instruction, up to the one at `until`. A fault that would stop the build
    ends the search of its stage. Raises DockerfileError for malformed options.
    """
    if options is None:
        options = file_options(dockerfile)
    found = Findings(options)
    args = dict(build_args or {})
    _check_instructions(dockerfile, found)
    _check_stage_names(dockerfile.stages, found)
    _check_casing(dockerfile.stages, found)
    try:
        _check_defaults(dockerfile, _predefined(dockerfile, args, platform), found)
        env = _global_args(dockerfile, _predefined(dockerfile, args, platform), args)
    except DockerfileError:
        return found.found
    names = [*env, *(name for arg in dockerfile.global_args for name, _ in arg.args)]
    origins = [_check_from(stage, env, names, dockerfile.escape, found) for stage in dockerfile.stages]
    images = [bases and bases(index, name) for index, name in enumerate(origins)]
    for stage, name, image in zip(dockerfile.stages, origins, images, strict=True):
        if image and image.expected:
            shown = name, quote(image.platform), quote(image.expected)
            found.add(rules.INVALID_BASE_IMAGE_PLATFORM, stage.origin.where, *shown)
    check = partial(
        check_stage, escape=dockerfile.escape, global_args=env, build_args=args, ignore=ignore, until=until
    )
    states: list[StageState] = []
    for stage, name, image in zip(dockerfile.stages, origins, images, strict=True):
        earlier = None if image else find_stage(dockerfile.stages[: stage.index], name, by_index=False)
        if earlier is None:
            before, state = None, StageState({"PATH": _PATH, **(image.env if image else {})})
        else:
            before, state = dockerfile.stages[earlier], states[earlier].derived()
        states.append(state)
        if stages is not None and stage.index not in stages:
            continue
        try:
            fired = with_triggers(stage, before, image.onbuild if image else ())
        except DockerfileError:
            break
        if not check(fired, state, found):
            break
    return found.found


def lint_partly(dockerfile: Dockerfile, options: LintOptions) -> list[Finding]:
    """What the checks find where a fault in the text ends everything: what single instructions decide."""
    found = Findings(options)
    _check_instructions(dockerfile, found)
    return found.found


def _check_instructions(dockerfile: Dockerfile, found: Findings) -> None:
    for line in dockerfile.gaps:
        found.add(rules.NO_EMPTY_CONTINUATION, SourceRange(dockerfile.name, line, line))
    for instruction in _all(dockerfile):
        _check_instruction(instruction, found.under(instruction.comments))


def file_options(dockerfile: Dockerfile) -> LintOptions:
    """The options of the ``# check=`` directive. Raises DockerfileError where it is malformed."""
    text = dict(dockerfile.directives).get("check", "")
    try:
        return parse_lint_options(option_text(text))
    except DockerfileError as error:
        for line, row in enumerate(dockerfile.text.split("\n"), 1):
            if text in row:
                raise error.at(SourceRange(dockerfile.name, line, line)) from None
        raise


def failure(findings: Sequence[Finding], options: LintOptions) -> DockerfileError | None:
    """The error that ``error=true`` makes of the findings, or None."""
    if not options.error or not findings:
        return None
    names = ", ".join(sorted({finding.rule.name for finding in findings}))
    return DockerfileError(
        f"lint violation found for rules: {names}",
        cure="Mend what was found, or name the rules in '# check=skip='.",
        where=findings[0].where,
    )


def keyword(instruction: Instruction) -> str:
    """The name of the instruction in the letter case it is written in."""
    return split_blanks(instruction.code, 1)[0]


def _all(dockerfile: Dockerfile) -> list[Instruction]:
    listed: list[Instruction] = list(dockerfile.global_args)
    for stage in dockerfile.stages:
        listed.append(stage.origin)
        listed.extend(stage.instructions)
    return listed


def _check_instruction(instruction: Instruction, found: Findings) -> None:
    where = instruction.where
    if isinstance(instruction, Maintainer):
        found.add(rules.MAINTAINER_DEPRECATED, where)
    elif isinstance(instruction, From):
        name, written = instruction.name, instruction.name_as_written
        if written != name:
            found.add(rules.STAGE_NAME_CASING, where, written)
        if name:
            _check_as(instruction, found)
            _check_description("FROM", [name], instruction, found)
    elif isinstance(instruction, Arg):
        _check_description("ARG", [key for key, _ in instruction.args], instruction, found)


def _check_as(origin: From, found: Findings) -> None:
    """AS is in the case of FROM, unless FROM itself is in neither: another rule speaks of that."""
    word, middle = keyword(origin), split_blanks(origin.code)[-2]
    lower, upper = word == word.lower(), word == word.upper()
    if (lower and middle != middle.lower()) or (upper and middle != middle.upper()):
        found.add(rules.FROM_AS_CASING, origin.where, middle, word)


def _check_description(what: str, names: list[str], instruction: Instruction, found: Findings) -> None:
    if instruction.comments and instruction.comments[-1].split(" ")[0] not in names:
        name = names[0] if len(names) == 1 else "<arg_key>"
        found.add(rules.INVALID_DEFINITION_DESCRIPTION, instruction.where, what, name)


def _check_stage_names(stages: Sequence[Stage], found: Findings) -> None:
    seen: set[str] = set()
    for stage in stages:
        if stage.name in RESERVED_NAMES:
            found.add(rules.RESERVED_STAGE_NAME, stage.origin.where, quote(stage.name))
        if stage.name and stage.name in seen:
            found.add(rules.DUPLICATE_STAGE_NAME, stage.origin.where, quote(stage.name))
        seen.add(stage.name)


def _check_casing(stages: Sequence[Stage], found: Findings) -> None:
    """All keywords are to be in the case that most are in; upper case where there is no majority."""
    uses = [(keyword(one), one.where) for stage in stages for one in (stage.origin, *stage.instructions)]
    lower = sum(word == word.lower() for word, _ in uses)
    upper = sum(word == word.upper() != word.lower() for word, _ in uses)
    for word, where in uses:
        if lower > upper and word != word.lower():
            found.add(rules.CONSISTENT_INSTRUCTION_CASING, where, word, "lowercase")
        elif lower <= upper and word != word.upper():
            found.add(rules.CONSISTENT_INSTRUCTION_CASING, where, word, "uppercase")


def _predefined(dockerfile: Dockerfile, args: Mapping[str, str], platform: str) -> dict[str, str]:
    """The platform arguments that exist without being declared."""
    system, _, machine = platform.partition("/")
    machine, _, variant = machine.partition("/")
    values = (platform, system, "", machine, variant)
    env = {
        f"{side}{name}": value
        for side in ("BUILD", "TARGET")
        for name, value in zip(_PLATFORM_NAMES, values, strict=True)
    }
    env["TARGETSTAGE"] = dockerfile.stages[-1].name or "default"
    return {name: args.get(name, value) for name, value in env.items()}


def _global_args(dockerfile: Dockerfile, env: dict[str, str], args: Mapping[str, str]) -> dict[str, str]:
    """`env` with the arguments above the first FROM added. Raises DockerfileError."""
    for arg in dockerfile.global_args:
        for name, default in arg.args:
            if name in args:
                env[name] = args[name]
            elif default is not None:
                env[name] = expand(default, env, escape=dockerfile.escape).text
    return env


def _check_defaults(dockerfile: Dockerfile, env: dict[str, str], found: Findings) -> None:
    """A build without any option should have valid base names. Raises DockerfileError."""
    env = _global_args(dockerfile, env, {})
    for stage in dockerfile.stages:
        try:
            base = expand(stage.origin.base, env, escape=dockerfile.escape).text
        except DockerfileError:
            return
        if not is_image_name(base):
            found.add(rules.INVALID_DEFAULT_ARG_IN_FROM, stage.origin.where, stage.origin.base)


def _check_from(
    stage: Stage, env: Mapping[str, str], names: Sequence[str], escape: str, found: Findings
) -> str:
    """Checks the FROM of `stage` and returns its base, expanded."""
    origin = stage.origin
    found = found.under(origin.comments)
    base = _expanded(origin.base, env, escape)
    _check_declared(base, origin, names, found)
    if origin.platform:
        platform = _expanded(origin.platform, env, escape)
        _check_declared(platform, origin, names, found)
        redundant = platform.used == {"TARGETPLATFORM"} and not platform.unmatched
        if redundant and platform.text == env.get("TARGETPLATFORM"):
            found.add(rules.REDUNDANT_TARGET_PLATFORM, origin.where, origin.platform)
        if not platform.used and not platform.unmatched:
            _check_constant(platform.text, stage, found)
    return base.text


def _expanded(text: str, env: Mapping[str, str], escape: str) -> Expansion:
    try:
        return expand(text, env, escape=escape)
    except DockerfileError:
        return Expansion("", frozenset(), frozenset())


def _check_declared(used: Expansion, origin: From, names: Sequence[str], found: Findings) -> None:
    for name in sorted(used.unmatched.difference(names)):
        found.add(rules.UNDEFINED_ARG_IN_FROM, origin.where, name, suggestion(name, names))


def _check_constant(platform: str, stage: Stage, found: Findings) -> None:
    """A constant platform is fine where the stage's name says that it is meant."""
    parts = platform_parts(platform)
    if parts is not None and not any(part in stage.name for part in parts):
        found.add(rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, stage.origin.where, quote(platform))
