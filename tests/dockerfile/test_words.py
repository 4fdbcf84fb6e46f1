from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.words import expand, expand_raw, expand_words
from minibuild.errors import DockerfileError

TABLE = Path(__file__).with_name("words.txt")


def rows() -> list[tuple[int, dict[str, str], str, str]]:
    env: dict[str, str] = {}
    found = []
    for number, line in enumerate(TABLE.read_text("utf-8").splitlines(), 1):
        if line.startswith("= "):
            name, _, value = line[2:].partition("=")
            env[name] = value
        elif line and not line.startswith("#"):
            text, _, result = line.partition(" => ")
            found.append((number, dict(env), text.rstrip(" "), result.lstrip(" ").replace("\\s", "")))
    return found


@pytest.mark.parametrize(
    ("env", "text", "result"), [row[1:] for row in rows()], ids=[f"line {row[0]}" for row in rows()]
)
def test_the_table_holds(env: dict[str, str], text: str, result: str) -> None:
    if result == "!":
        with pytest.raises(DockerfileError):
            expand(text, env)
    else:
        assert expand(text, env).text == result


def test_the_message_of_a_demand_is_shown() -> None:
    with pytest.raises(DockerfileError, match="V: set it with --build-arg"):
        expand("${V:?set it with --build-arg}", {"V": ""})


@pytest.mark.parametrize(("value", "state"), [(None, "unset"), ("", "empty")])
def test_a_demand_without_a_message_says_what_is_missing(value: str | None, state: str) -> None:
    with pytest.raises(DockerfileError, match=f"V: is not allowed to be {state}"):
        expand("${V:?}", {} if value is None else {"V": value})


def test_names_are_reported_as_used_or_unmatched() -> None:
    found = expand("$A ${B:-$C} ${D+x} '$E'", {"A": "", "C": "c"})
    assert found.used == {"A", "C"}
    assert found.unmatched == {"B", "D"}


def test_a_backtick_can_be_the_escape() -> None:
    assert expand("a\\b `$A ``", {"A": "x"}, escape="`").text == "a\\b $A `"


def test_unset_references_can_stay_as_written() -> None:
    found = expand("$A $B ${B} ${B:-d} ${B#p} ${B//a/b}", {"A": "x"}, skip_unset=True)
    assert found.text == "x $B ${B} ${B:-d} ${B#p} ${B//a/b}"


def test_quotes_can_be_kept_and_still_protect() -> None:
    assert expand("'$A' \"$A\"", {"A": "x"}, keep_quotes=True).text == "'$A' \"x\""


def test_a_dollar_group_in_a_replacement_of_all_is_the_match() -> None:
    assert expand("${A//b/$R}", {"A": "abc", "R": "<$0$$${0}$1>"}).text == "a<b$b>c"
    assert expand("${A/b/$R}", {"A": "abc", "R": "<$0>"}).text == "a<$0>c"


def test_a_body_keeps_its_quotes_and_loses_its_escapes() -> None:
    assert expand_raw("'$A' \"$A\" \\$A it's \\n", {"A": "x"}).text == "'x' \"x\" $A it's n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a  b ", ["a", "b"]),
        ("a$S", ["ab", "c"]),
        ('a"$S"d', ["ab  c d"]),
        ("$S$S", ["b", "c", "b", "c"]),
        ("a\\ b", ["a b"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("a '' b", ["a", "b"]),
        ("$UNSET", []),
        ("<< EOF", ["<< EOF"]),
        ("a < b", ["a", "<", "b"]),
        ("80${P:-80}", ["8080"]),
    ],
)
def test_words_split_at_white_space_outside_quotes(text: str, words: list[str]) -> None:
    assert expand_words(text, {"S": "b  c "}) == words


def test_words_can_keep_their_quotes_and_escapes() -> None:
    assert expand_words("'a b' c\\ d", {}, keep_quotes=True, keep_escapes=True) == ["'a b'", "c\\ d"]


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(DockerfileError, match="nested too deeply"):
        expand("${a:-" * 20_000 + "}" * 20_000, {})


def test_growth_without_end_is_an_error() -> None:
    value = "x" * 100_000
    with pytest.raises(DockerfileError, match="too large"):
        expand("$A" * 1_000, {"A": value})
    with pytest.raises(DockerfileError, match="too large"):
        expand("${A//x/$A}", {"A": value})


def test_many_stars_take_no_time() -> None:
    assert expand("${A%%" + "*x" * 30 + "y}", {"A": "x" * 5_000}).text == "x" * 5_000


@given(st.text(), st.dictionaries(st.text("abAB_", min_size=1), st.text()))
def test_any_text_expands_or_is_refused(text: str, env: dict[str, str]) -> None:
    for call in (expand, expand_raw, expand_words):
        try:
            call(text, env)
        except DockerfileError as error:
            assert error.message.startswith("failed to process")


@given(st.text("ab$\\{}'\"`#%/:?+-*<! ", max_size=30), st.sampled_from("\\`"))
def test_special_characters_in_any_order_expand_or_are_refused(text: str, escape: str) -> None:
    for skip in (False, True):
        with contextlib.suppress(DockerfileError):
            expand(text, {"a": "x*y", "b": ""}, escape=escape, skip_unset=skip)


@given(st.text())
def test_single_quotes_protect_any_text(text: str) -> None:
    quoted = text.replace("'", "")
    assert expand(f"'{quoted}'", {"a": "b"}).text == quoted


@given(st.text(), st.text())
def test_a_value_is_never_read_again(value: str, other: str) -> None:
    assert expand("$A", {"A": value, "B": other}).text == value
