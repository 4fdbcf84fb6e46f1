"""The build checks as data: names and texts are BuildKit's, so that habits and tools carry over."""

from __future__ import annotations

import re
from collections.abc import Collection

from minibuild.dockerfile.directives import option_text, read_directives
from minibuild.dockerfile.gotext import SPACE, boolean, quote
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple


class Rule(NamedTuple):
    """One check. `template` is filled in by `Finding`; an `experimental` one runs only when asked for."""

    name: str
    description: str
    template: str
    experimental: bool = False

    @property
    def url(self) -> str:
        """Where Docker explains the rule, "" where it does not."""
        if self.name == "InvalidBaseImagePlatform":
            return ""
        words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name)
        return f"https://docs.docker.com/go/dockerfile/rule/{words.lower()}/"


class Finding(NamedTuple):
    """What a rule has to say about some lines."""

    rule: Rule
    message: str
    where: SourceRange


class LintOptions(NamedTuple):
    """``skip=A,B;experimental=C;error=true``. A name not known is no error."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def wants(self, rule: Rule) -> bool:
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental
        return not self.skip_all and rule.name not in self.skip

    def merged(self, other: LintOptions) -> LintOptions:
        """Both together, as a ``# check=`` comment adds to the file's; `error` is the file's alone."""
        return LintOptions(
            self.skip | other.skip,
            self.skip_all or other.skip_all,
            self.experimental | other.experimental,
            self.experimental_all or other.experimental_all,
            self.error,
        )


STAGE_NAME_CASING = Rule(
    "StageNameCasing", "Stage names should be lowercase", "Stage name '{}' should be lowercase"
)
FROM_AS_CASING = Rule(
    "FromAsCasing",
    "The 'as' keyword should match the case of the 'from' keyword",
    "'{}' and '{}' keywords' casing do not match",
)
NO_EMPTY_CONTINUATION = Rule(
    "NoEmptyContinuation",
    "Empty continuation lines will become errors in a future release",
    "Empty continuation line",
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "Command '{}' should match the case of the command majority ({})",
)
DUPLICATE_STAGE_NAME = Rule(
    "DuplicateStageName",
    "Stage names should be unique",
    "Duplicate stage name {}, stage names should be unique",
)
RESERVED_STAGE_NAME = Rule(
    "ReservedStageName",
    "Reserved words should not be used as stage names",
    "Stage name should not use the same name as reserved stage {}",
)
JSON_ARGS_RECOMMENDED = Rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED = Rule(
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "Maintainer instruction is deprecated in favor of using label",
)
UNDEFINED_ARG_IN_FROM = Rule(
    "UndefinedArgInFrom",
    "FROM command must use declared ARGs",
    "FROM argument '{}' is not declared{}",
)
WORKDIR_RELATIVE_PATH = Rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results "
    "if the base image changes",
    "Relative workdir {} can have unexpected results if the base image changes",
)
UNDEFINED_VAR = Rule(
    "UndefinedVar",
    "Variables should be defined before their use",
    "Usage of undefined variable '${}'{}",
)
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
)
LEGACY_KEY_VALUE_FORMAT = Rule(
    "LegacyKeyValueFormat",
    "Legacy key/value format with whitespace separator should not be used",
    '"{0} key=value" should be used instead of legacy "{0} key value" format',
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    "InvalidBaseImagePlatform",
    "Base image platform does not match expected target platform",
    "Base image {} was pulled with platform {}, expected {} for current build",
)
REDUNDANT_TARGET_PLATFORM = Rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    "SecretsUsedInArgOrEnv",
    "Sensitive data should not be used in the ARG or ENV commands",
    "Do not use ARG or ENV instructions for sensitive data ({} {})",
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    "InvalidDefaultArgInFrom",
    "Default value for global ARG results in an empty or invalid base image name",
    "Default value for ARG {} results in empty or invalid base image name",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    "FromPlatformFlagConstDisallowed",
    "FROM --platform flag should not use a constant value",
    "FROM --platform flag should not use constant value {}",
)
COPY_IGNORED_FILE = Rule(
    "CopyIgnoredFile",
    "Attempting to Copy file that is excluded by .dockerignore",
    "Attempting to {} file {} that is excluded by .dockerignore",
)
INVALID_DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. "
    "If this is not intended to be a description comment, add an empty line or comment between the "
    "instruction and the comment.",
    "Comment for {} should follow the format: `# {} <description>`",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule(
    "ExposeProtoCasing",
    "Protocol in EXPOSE instruction should be lowercase",
    "Defined protocol '{}' in EXPOSE instruction should be lowercase",
)
EXPOSE_INVALID_FORMAT = Rule(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. "
    "This will become an error in a future release",
    "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
)

RULES: tuple[Rule, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))


class Findings:
    """Collects findings under the options in force, which comments above an instruction add to."""

    __slots__ = ("found", "options")

    def __init__(self, options: LintOptions, found: list[Finding] | None = None) -> None:
        self.options = options
        self.found = [] if found is None else found

    def add(self, rule: Rule, where: SourceRange, *values: str) -> None:
        if self.options.wants(rule):
            self.found.append(Finding(rule, rule.template.format(*values), where))

    def under(self, comments: Collection[str]) -> Findings:
        """The same collection, with what a ``# check=`` among `comments` says added to the options."""
        for comment in comments:
            for key, value in read_directives(f"#{comment}") if "=" in comment else ():
                if key == "check":
                    try:
                        options = parse_lint_options(option_text(value))
                    except DockerfileError:
                        return self
                    return Findings(self.options.merged(options), self.found)
        return self


def suggestion(name: str, known: Collection[str], sign: str = "") -> str:
    """`` (did you mean NAME?)``, the name behind `sign`, or nothing."""
    hint = did_you_mean(name, known)
    return hint.replace("mean ", f"mean {sign}", 1)


def parse_lint_options(text: str) -> LintOptions:
    """The value of a ``# check=`` directive or of BUILDKIT_DOCKERFILE_CHECK. Raises DockerfileError."""
    text = text.strip(SPACE)
    options = LintOptions()
    for part in text.split(";", 2) if text else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(SPACE), value.strip(SPACE)
        names = frozenset(name.strip(SPACE) for name in value.split(","))
        if not equals:
            raise _bad_option(part)
        if key == "skip":
            options = (
                options._replace(skip=frozenset(), skip_all=True)
                if value == "all"
                else (options._replace(skip=names))
            )
        elif key == "experimental":
            options = (
                options._replace(experimental_all=True)
                if value == "all"
                else options._replace(experimental=names)
            )
        elif key == "error":
            flag = boolean(value)
            if flag is None:
                raise DockerfileError(
                    f"failed to parse check option {quote(part)}", cure="Write error=true or error=false."
                )
            options = options._replace(error=flag)
        else:
            raise _bad_option(key)
    return options


def _bad_option(part: str) -> DockerfileError:
    return DockerfileError(
        f"invalid check option {quote(part)}{did_you_mean(part, ('skip', 'experimental', 'error'))}",
        cure="Write skip=RULE,RULE or skip=all, experimental=RULE and error=true, parted by ';'.",
    )
