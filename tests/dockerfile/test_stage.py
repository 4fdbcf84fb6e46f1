from __future__ import annotations

import pytest

from minibuild.dockerfile.parse import parse
from minibuild.dockerfile.stage import check_stage_name, find_stage, unknown_stage
from minibuild.errors import DockerfileError

STAGES = parse("FROM a AS one\nFROM b AS Two\nFROM c\nFROM d AS two\n").stages


def test_a_name_is_found_in_any_letter_case_and_the_last_wins() -> None:
    assert find_stage(STAGES, "ONE") == 0
    assert find_stage(STAGES, "two") == 3
    assert find_stage(STAGES[:2], "two") == 1
    assert find_stage(STAGES, "three") is None
    assert find_stage(STAGES, "") is None


def test_a_number_is_an_index() -> None:
    assert find_stage(STAGES, "2") == 2
    assert find_stage(STAGES, "4") is None
    assert find_stage(STAGES, "-1") is None
    assert find_stage(STAGES, "2", by_index=False) is None


def test_an_unknown_name_comes_with_the_near_miss() -> None:
    error = unknown_stage(STAGES, "Tow", what="target stage")
    assert error.message == 'target stage "Tow" could not be found (did you mean two?)'
    assert error.cure == "The stages are one, two, two."


def test_stages_without_names_are_listed_by_number() -> None:
    assert unknown_stage(parse("FROM a\nFROM b\n").stages, "x").cure == "The stages are 0 to 1."
    assert "one stage" in str(unknown_stage(parse("FROM a\n").stages, "x").cure)


@pytest.mark.parametrize("name", ["a", "A9", "a-b_c.d"])
def test_a_good_name_passes(name: str) -> None:
    check_stage_name(name)


@pytest.mark.parametrize("name", ["", "9", "-a", "a/b", "a:b", "é", "a b", "a\n"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(DockerfileError, match="invalid name for build stage"):
        check_stage_name(name)
