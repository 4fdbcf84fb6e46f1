"""Comments above an instruction, and steps picked by number or words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError, SourceRange, UsageError
from minibuild.plan.stepoptions import NoCacheSteps, seconds, with_comments
from minibuild.plan.steps import Step, WorkdirStep

STEP = WorkdirStep(name="", instruction="", where=SourceRange("Dockerfile", 1, 1), path="/w", user="")


def commented(comment: str, step: Step | None = STEP) -> Step | None:
    (node,) = parse(f"FROM scratch\n#{comment}\nWORKDIR /w\n").stages[0].instructions
    return with_comments(step, node)


@pytest.mark.parametrize(
    ("age", "expected"),
    [("30s", 30), ("1.5m", 90), ("24h", 86400), ("7d", 604800), ("1w2d", 777600), ("1h30m", 5400)],
)
def test_ages(age: str, expected: float) -> None:
    step = commented(f" minibuild: ttl={age}")
    assert step is not None and step.ttl == expected


def test_several_words_in_one_comment() -> None:
    step = commented("minibuild:ttl=1h no-cache ")
    assert step is not None and (step.ttl, step.cacheable) == (3600, False)


def test_other_comments_say_nothing() -> None:
    assert commented(" about minibuild: it is small") == STEP
    assert commented(" check=skip=all") == STEP
    assert commented(" minibuild:") == STEP


@pytest.mark.parametrize("words", ["ttl=", "ttl=1", "ttl=1y", "ttl=-1h", "ttl=١h", "no-cache=1", "cache"])
def test_words_that_are_not_known(words: str) -> None:
    with pytest.raises(DockerfileError, match="is not known"):
        commented(f" minibuild: {words}")


def test_what_executes_nothing_has_nothing_to_cache() -> None:
    with pytest.raises(DockerfileError, match="WORKDIR, which executes nothing"):
        commented(" minibuild: no-cache", None)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhdw")), min_size=1, max_size=5))
def test_an_age_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert seconds(text) == sum(seconds(f"{number}{unit}") for number, unit in parts)


@pytest.mark.parametrize(
    ("wanted", "target", "named"),
    [
        ("3", True, True),
        ("3", False, False),
        ("build:3", False, True),
        ("BUILD:3", True, True),
        ("other:3", True, False),
        ("4", True, False),
        ("apt-get", False, True),
        ("APT-GET", False, True),
        ("yum", True, False),
    ],
)
def test_steps_by_number_stage_and_words(wanted: str, target: bool, named: bool) -> None:
    steps = NoCacheSteps([wanted])
    assert steps.names("RUN apt-get update", "build", 3, target=target) is named
    if named:
        steps.check()
    else:
        with pytest.raises(UsageError, match="no step of this build is called that"):
            steps.check()
