"""What BuildKit answers to ``frontend.outline`` and ``frontend.targets`` for the same files."""

from __future__ import annotations

import pytest

from minibuild.dockerfile.outline import (
    outline,
    outline_json,
    outline_text,
    targets_json,
    targets_text,
)
from minibuild.dockerfile.parse import parse
from minibuild.errors import UsageError

TEXT = """\
# the base version
ARG V=latest
# VERSION is the version
ARG VERSION=1
ARG UNUSED=x
FROM busybox:${V} AS base
# build compiles
FROM base AS build
ARG VERSION
ARG KEY=$VERSION
RUN --mount=type=secret,id=foo,required=true --mount=type=ssh true

FROM scratch
COPY --from=build /y /
"""


def test_args_secrets_and_keys_of_the_stages_that_are_needed() -> None:
    assert (
        outline_text(outline(parse(TEXT), "", {}, {})) == "BUILD ARG   VALUE    DESCRIPTION\n"
        "V           latest   \n"
        "VERSION     1        is the version\n"
        "KEY         1        \n"
        "\n"
        "SECRET   REQUIRED\n"
        "foo      true\n"
        "\n"
        "SSH       REQUIRED\n"
        "default   \n"
        "\n"
    )


def test_a_target_has_a_name_and_a_description() -> None:
    shown = outline_text(outline(parse(TEXT), "BUILD", {"V": "3"}, {}))
    assert shown.startswith("TARGET:      build\nDESCRIPTION: compiles\n\nBUILD ARG")
    assert "V           3 " in shown


def test_a_default_needs_the_arguments_in_it() -> None:
    found = outline(parse("ARG A=1\nARG B=$A\nARG C=2\nFROM x:$B\n"), "", {}, {})
    assert [(arg.name, arg.value) for arg in found.args] == [("A", "1"), ("B", "1")]


def test_the_outline_as_json() -> None:
    found = outline(parse("FROM x AS a\n# N counts\nARG N\nRUN --mount=type=secret,id=s true\n"), "", {}, {})
    document = outline_json(found, "text")
    assert document == {
        "name": "a",
        "args": [{"name": "N", "description": "counts", "location": {"ranges": [line(3)]}}],
        "secrets": [{"name": "s", "location": {"ranges": [line(4)]}}],
        "sources": ["dGV4dA=="],
    }


def line(number: int) -> dict[str, dict[str, int]]:
    return {"start": {"line": number}, "end": {"line": number}}


def test_a_target_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean build"):
        outline(parse(TEXT), "buidl", {}, {})


def test_targets_are_listed_with_the_default_marked() -> None:
    assert targets_text(parse(TEXT)) == "TARGET    DESCRIPTION\nbase      \nbuild     compiles\n(default) \n"
    assert targets_text(parse("FROM x AS a\n")) == "TARGET      DESCRIPTION\na (default) \n"


def test_targets_as_json() -> None:
    targets = targets_json(parse("FROM --platform=linux/amd64 x AS a\nFROM a\n"))["targets"]
    assert targets == [
        {"name": "a", "base": "x", "platform": "linux/amd64", "location": {"ranges": [line(1)]}},
        {"default": True, "base": "a", "location": {"ranges": [line(2)]}},
    ]


def test_triggers_of_a_stage_count_where_they_fire() -> None:
    text = "FROM a AS base\nONBUILD ARG A=1\nONBUILD RUN --mount=type=secret,id=s true\nFROM base\n"
    found = outline(parse(text), "", {}, {})
    assert [(one.name, one.where.first) for one in found.args] == [("A", 4)]
    assert [one.name for one in found.secrets] == ["s"]
