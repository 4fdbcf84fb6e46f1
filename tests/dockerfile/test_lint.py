from __future__ import annotations

import pytest

from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.dockerfile.lint import Base, failure, file_options, lint
from minibuild.dockerfile.lintrules import RULES, LintOptions, parse_lint_options
from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError

ALL = LintOptions(experimental_all=True)


def found(text: str, **settings: object) -> list[tuple[str, int, str]]:
    findings = lint(parse(text), **settings)  # type: ignore[arg-type]
    return [(finding.rule.name, finding.where.first, finding.message) for finding in findings]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("FROM a AS Bee\n", ("StageNameCasing", 1, "Stage name 'Bee' should be lowercase")),
        ("FROM a as b\n", ("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")),
        ("FROM a\nRUN x \\\n\n y\n", ("NoEmptyContinuation", 4, "Empty continuation line")),
        (
            "FROM a\nRUN x\nuser y\n",
            (
                "ConsistentInstructionCasing", 3,
                "Command 'user' should match the case of the command majority (uppercase)",
            ),
        ),
        (
            "from a\nRun x\nuser y\n",
            (
                "ConsistentInstructionCasing", 2,
                "Command 'Run' should match the case of the command majority (lowercase)",
            ),
        ),
        (
            "FROM a AS b\nFROM c AS b\n",
            ("DuplicateStageName", 2, 'Duplicate stage name "b", stage names should be unique'),
        ),
        (
            "FROM a AS scratch\n",
            (
                "ReservedStageName", 1,
                'Stage name should not use the same name as reserved stage "scratch"',
            ),
        ),
        (
            "FROM a\nCMD x\n",
            (
                "JSONArgsRecommended", 2,
                "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            ),
        ),
        (
            "FROM a\nMAINTAINER x\n",
            ("MaintainerDeprecated", 2, "Maintainer instruction is deprecated in favor of using label"),
        ),
        (
            "ARG BASE=a\nFROM $BASE AS b\nFROM b$BSE\n",
            ("UndefinedArgInFrom", 3, "FROM argument 'BSE' is not declared (did you mean BASE?)"),
        ),
        (
            "FROM a\nWORKDIR b\nWORKDIR c\n",
            (
                "WorkdirRelativePath", 2,
                'Relative workdir "b" can have unexpected results if the base image changes',
            ),
        ),
        (
            "FROM a\nENV ONE=1\nLABEL a=$ONEE\n",
            ("UndefinedVar", 3, "Usage of undefined variable '$ONEE' (did you mean $ONE?)"),
        ),
        (
            'FROM a\nCMD ["x"]\nCMD ["y"]\n',
            (
                "MultipleInstructionsDisallowed", 2,
                "Multiple CMD instructions should not be used in the same stage because only the last one "
                "will be used",
            ),
        ),
        (
            "FROM a\nENV A b\n",
            (
                "LegacyKeyValueFormat", 2,
                '"ENV key=value" should be used instead of legacy "ENV key value" format',
            ),
        ),
        (
            "FROM --platform=$TARGETPLATFORM a\n",
            (
                "RedundantTargetPlatform", 1,
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default "
                "behavior",
            ),
        ),
        (
            "FROM a\nARG API_TOKEN\n",
            (
                "SecretsUsedInArgOrEnv", 2,
                'Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN")',
            ),
        ),
        (
            "ARG TAG\nFROM a:$TAG\n",
            (
                "InvalidDefaultArgInFrom", 2,
                "Default value for ARG a:$TAG results in empty or invalid base image name",
            ),
        ),
        (
            "FROM --platform=linux/amd64 a\n",
            (
                "FromPlatformFlagConstDisallowed", 1,
                'FROM --platform flag should not use constant value "linux/amd64"',
            ),
        ),
        (
            "FROM a\nEXPOSE 80/TCP\n",
            ("ExposeProtoCasing", 2, "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
        ),
        (
            "FROM a\nEXPOSE 8080:80\n",
            (
                "ExposeInvalidFormat", 2,
                "EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80'",
            ),
        ),
        (
            "# words\nFROM a AS b\n",
            (
                "InvalidDefinitionDescription", 2,
                "Comment for FROM should follow the format: `# b <description>`",
            ),
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_found_and_nothing_else(text: str, finding: tuple[str, int, str]) -> None:
    assert found(text, options=ALL) == [finding]


def test_all_rules_of_buildkit_are_listed() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) == 22


def test_a_clean_file_gives_nothing() -> None:
    text = """# check=experimental=all
ARG VERSION=1
# build makes it
FROM --platform=$BUILDPLATFORM go:$VERSION AS build
ARG VERSION
# WHAT says what
ARG WHAT=a$VERSION
ENV A=$PATH B=${C:-x}$VERSION
FROM build
WORKDIR /a
WORKDIR b
COPY $WHAT $VERSION /x/
SHELL ["bash"]
CMD x
FROM scratch AS linux
COPY --from=build a /b
"""
    expected = [("UndefinedVar", 8, "Usage of undefined variable '$C'")]
    assert found(text, options=ALL) == expected


def test_a_file_says_what_to_skip() -> None:
    text = "# check=skip=JSONArgsRecommended,UndefinedVar;error=true\nFROM a\nCMD x\nUSER $y\nMAINTAINER z\n"
    dockerfile = parse(text)
    findings = lint(dockerfile)
    assert [finding.rule.name for finding in findings] == ["MaintainerDeprecated"]
    error = failure(findings, file_options(dockerfile))
    assert error is not None
    assert error.message == "lint violation found for rules: MaintainerDeprecated"
    assert failure([], file_options(dockerfile)) is None
    assert failure(findings, LintOptions()) is None


def test_a_comment_skips_a_rule_for_the_instruction_below() -> None:
    rows = found("FROM a\n# check=skip=JSONArgsRecommended remark\nENTRYPOINT x\nCMD y\n")
    assert [row[:2] for row in rows] == [("JSONArgsRecommended", 4)]


def test_what_the_base_image_sets_is_defined() -> None:
    text = "FROM go AS a\nENV X=$GOPATH\nFROM a\nUSER $GOPATH\n"
    assert [row[0] for row in found(text)] == ["UndefinedVar", "UndefinedVar"]
    assert found(text, bases=lambda index, name: Base({"GOPATH": "/go"}) if name == "go" else None) == []


def test_an_image_for_another_platform_is_told() -> None:
    base = Base({}, platform="linux/arm64", expected="linux/amd64")
    text = 'Base image go was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    assert found("FROM go\n", bases=lambda index, name: base) == [("InvalidBaseImagePlatform", 1, text)]


def test_only_the_stages_asked_for_are_followed() -> None:
    text = "FROM a AS B\nENV X=$Y\nFROM a\nENV X=$Z\n"
    assert [row[:2] for row in found(text, stages={1})] == [("StageNameCasing", 1), ("UndefinedVar", 4)]


def test_rules_link_to_their_explanation() -> None:
    pages = {
        rule.name: rule.url.removeprefix("https://docs.docker.com/go/dockerfile/rule/") for rule in RULES
    }
    assert pages["JSONArgsRecommended"] == "json-args-recommended/"
    assert pages["FromPlatformFlagConstDisallowed"] == "from-platform-flag-const-disallowed/"
    assert pages["InvalidBaseImagePlatform"] == ""


def test_build_arguments_count_as_values() -> None:
    text = "ARG TAG\nFROM a:$TAG\nARG W\nWORKDIR $W\n"
    names = [row[0] for row in found(text, build_args={"TAG": "1", "W": "/w"})]
    assert names == ["InvalidDefaultArgInFrom"]


@pytest.mark.parametrize(
    ("source", "ignored"),
    [("a.log", True), ("./x/../a.log", True), ("a.txt", False), (".", False), ("https://x/a.log", False)],
)
def test_copying_what_is_ignored_is_found(source: str, ignored: bool) -> None:
    rows = found(f"FROM a\nADD {source} /x\n", ignore=IgnoreFile.parse("*.log\n"))
    assert [row[0] for row in rows] == ["CopyIgnoredFile"] * ignored
    assert not found(f"FROM a\nADD {source} /x\n", ignore=IgnoreFile.parse("*.log\n!a.log\n"))
    assert not found(f"FROM a\nCOPY --from=b {source} /x\n", ignore=IgnoreFile.parse("*.log\n"))


def test_options_are_read() -> None:
    assert parse_lint_options("") == LintOptions()
    assert parse_lint_options(" skip = A , B ; error=1") == LintOptions(frozenset("AB"), error=True)
    assert parse_lint_options("skip=all;experimental=all") == LintOptions(
        skip_all=True, experimental_all=True
    )


@pytest.mark.parametrize("text", ["skip", "error=maybe", "skp=A", "skip=A;x=1"])
def test_malformed_options_are_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse_lint_options(text)


def test_malformed_options_are_refused_at_their_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        lint(parse("# escape=`\n# check=skp=A\nFROM a\n"))
    assert caught.value.where is not None
    assert caught.value.where.first == 2
